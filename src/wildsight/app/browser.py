"""What runs in the browser beside gradio: the look, a box drawn with the mouse, the brush at hand."""

from __future__ import annotations

CSS = """
footer {display: none}
.gradio-container {max-width: 80rem; width: 100%; margin: auto}
.gradio-container .main {width: 100%; min-width: 0; padding-inline: clamp(.6rem, 3vw, 2rem) !important}
.gradio-container [role=tab] {padding: 0 .6rem}
.gradio-container .block:not(#outline) label[data-testid=block-label] {position: static; width: fit-content}
.gradio-container .prose table {display: block; overflow-x: auto; border: 0; padding: 0}
.gradio-container .prose :is(td, th) {word-break: normal; overflow-wrap: normal}
.gradio-container .prose :is(td, th) {padding: .35rem clamp(.3rem, 1vw, .6rem)}
.gradio-container .prose :is(p, li) {overflow-wrap: anywhere}
.gradio-container .caption-label {white-space: normal; max-width: 100%}
.gradio-container .thumbnails .grid-wrap {overflow-y: auto}
.gradio-container .thumbnails .grid-container {grid-template-columns: repeat(auto-fill, 5.5rem)}
.gradio-container .fields {display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr))}
.gradio-container .choice {align-items: center; flex-wrap: nowrap}
.said {scroll-margin-top: 1rem}
#outline img {object-fit: contain; width: 100%; height: 100%; touch-action: none; user-select: none}
#rubber-band {position: fixed; z-index: 50; pointer-events: none}
#rubber-band {border: 2px solid #e8590c; background: #e8590c22}
@media (min-width: 900px) {
  .gradio-container .column:has(> .said), .gradio-container .column:has(> div > .said) {
    position: sticky; top: .5rem; align-self: flex-start; max-height: calc(100vh - 1rem); overflow-y: auto}
}
"""
BRUSH = """() => {
  let left = 40
  const take = () => {
    const brush = document.querySelector('#pad [aria-label=Brush]')
    if (brush) brush.click()
    else if (left--) setTimeout(take, 150)
  }
  setTimeout(take, 150)
}"""
"""Takes the brush, which gradio's pad leaves for the person to take."""
BOX = """() => {
  if (window.wildsightBox) return
  window.wildsightBox = true
  let start = null, band = null, moved = false
  const inside = (e) => e.target instanceof HTMLImageElement && e.target.closest('#outline')
  const pixel = (image, x, y) => {
    const r = image.getBoundingClientRect(), w = image.naturalWidth, h = image.naturalHeight
    const scale = Math.min(r.width / w, r.height / h)
    const fit = (v, most) => Math.max(0, Math.min(most, Math.round(v)))
    return [fit((x - r.left - (r.width - w * scale) / 2) / scale, w),
            fit((y - r.top - (r.height - h * scale) / 2) / scale, h)]
  }
  document.addEventListener('pointerdown', (e) => {
    if (!inside(e)) return
    e.preventDefault()
    start = {x: e.clientX, y: e.clientY, image: e.target}
    moved = false
  })
  document.addEventListener('pointermove', (e) => {
    if (!start) return
    const w = Math.abs(e.clientX - start.x), h = Math.abs(e.clientY - start.y)
    if (!moved && w + h < 8) return
    moved = true
    if (!band) {
      band = Object.assign(document.createElement('div'), {id: 'rubber-band'})
      document.body.appendChild(band)
    }
    const left = Math.min(e.clientX, start.x), top = Math.min(e.clientY, start.y)
    Object.assign(band.style, {left: left + 'px', top: top + 'px', width: w + 'px', height: h + 'px'})
  })
  document.addEventListener('pointerup', (e) => {
    if (!start) return
    const {x, y, image} = start
    start = null
    if (band) band = void band.remove()
    if (!moved) return
    const [ax, ay] = pixel(image, x, y), [bx, by] = pixel(image, e.clientX, e.clientY)
    const values = [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)]
    document.querySelectorAll('#box input[type=number]').forEach((field, i) => {
      field.value = values[i]
      field.dispatchEvent(new Event('input', {bubbles: true}))
    })
    setTimeout(() => document.getElementById('outline-box').click(), 250)
  })
  document.addEventListener('click', (e) => {
    if (moved && inside(e)) { e.stopPropagation(); e.preventDefault(); moved = false }
  }, true)
}"""
"""Draws a box on the picture of the tab Outline, fills its corners in, and presses the button."""
LAST_TAB = """() => {
  const last = localStorage.getItem('wildsight-tab')
  if (last && !window.wildsightTab) document.getElementById(last)?.click()
  document.addEventListener('click', (e) => {
    const tab = e.target instanceof Element && e.target.closest('[role=tab]')
    if (tab?.id) localStorage.setItem('wildsight-tab', window.wildsightTab = tab.id)
  })
}"""
"""Opens the tab that was open when the page was left."""
ON_LOAD = "() => { (" + LAST_TAB + ")(); (" + BOX + ")() }"
"""Runs once the page is there."""


def opens(tab: str) -> str:
    """The script that opens a tab.

    Args:
        tab: its ``elem_id``.
    """
    return f"() => document.getElementById('{tab}-button').click()"
