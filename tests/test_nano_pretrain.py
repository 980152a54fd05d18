"""How nano-clip, nano-llava and nano-sam are made: the parts against references, and whole tiny runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nano_models import CLIP, LLAVA, SAM, few_scores
from tools.nano import scene_cache
from tools.nano.clip import ClipConfig, new_clip, normalised, several, shown
from tools.nano.clip_pipeline import golden, pretrain_clip
from tools.nano.init import cosine_filters, places, shift
from tools.nano.llava import NanoLlavaConfig, Talker, allowed, chosen, new_llava, packed
from tools.nano.llava_pipeline import pretrain_llava
from tools.nano.sam import NanoSamConfig, begin_as, new_sam, overlap
from tools.nano.sam_pipeline import pretrain_sam
from tools.nano.sam_train import ask, inner_points, tight_boxes
from tools.nano.scene_cache import NAMES, SceneCache, cached_scenes, held_out, nano_scene
from tools.nano.views import (
    clear_things,
    fits,
    mirrored_text,
    owners,
    scenes,
    speech,
    windows,
)
from wildsight.backbones.backbone import load_backbone
from wildsight.errors import ConfigError
from wildsight.files import read_json, verify_manifest
from wildsight.world.scene import MATERIALS, SHAPES
from wildsight.world.tokens import tokenizer


@pytest.fixture(autouse=True, scope="module")
def _few_scores() -> Any:
    """Scores of a handful of scenes: the tiny runs are about the machinery."""
    patch = pytest.MonkeyPatch()
    few_scores(patch)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def book() -> SceneCache:
    return cached_scenes(8, 32)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain_clip(tmp_path_factory.mktemp("made") / "clip", config=CLIP, progress=False)


def test_lessons_never_show_a_held_out_pair() -> None:
    held = [(m, s) for m in MATERIALS for s in SHAPES if held_out(m, s)]
    assert len(held) == 16
    assert {m for m, _ in held} == set(MATERIALS) and {s for _, s in held} == set(SHAPES)
    for seed in range(40):
        assert not any(held_out(t.material, t.shape) for t in nano_scene(seed).things)


def test_a_book_tells_of_its_pictures(book: SceneCache, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, maps = book.take(range(8))
    for row in range(8):
        scene = nano_scene(book.first + row)
        assert (book.things[row, :, 0] > 0).sum() == len(scene.things)
        for index, thing in enumerate(scene.things):
            words = [names[code - 1] for names, code in zip(NAMES, book.things[row, index], strict=True)]
            assert words == [thing.shape, thing.colour, thing.material, thing.size]
            mask = maps[row] == index
            assert book.seen[row, index] == mask.sum()
            if mask.any():
                assert tight_boxes(torch.from_numpy(mask)).tolist() == book.places[row, index].tolist()
    monkeypatch.setattr(scene_cache, "_render", lambda *_: pytest.fail("rendered twice"))
    assert np.array_equal(cached_scenes(8, 32).take([3])[0][0], pictures[3])


def test_neighbours_are_found_by_their_codes() -> None:
    codes = places(6, 6)
    moved = codes @ shift(-1, 2, 6).T
    grid = torch.arange(36).view(6, 6)
    for row in range(1, 6):
        for column in range(4):
            scores = moved[grid[row, column]] @ codes.T
            assert scores.argmax() == grid[row - 1, column + 2]
    filters = cosine_filters(8, 160).flatten(1)
    angles = torch.nn.functional.normalize(filters, dim=1)
    assert torch.allclose(angles @ angles.T, torch.eye(160), atol=1e-5)


def test_a_fresh_head_looks_at_its_neighbour() -> None:
    clip = new_clip(ClipConfig(), tokenizer())
    weights = clip.vision_model(pixel_values=torch.zeros(1, 3, 96, 96), output_attentions=True).attentions[0]
    left_of = weights[0, 0, 1:, 1:].view(12, 12, 144)
    middle = left_of[3:9, 3:9].argmax(2)
    expected = torch.arange(144).view(12, 12)[3:9, 2:8]
    assert torch.equal(middle, expected)


def test_several_is_cross_entropy_where_one_text_is_true() -> None:
    scores = torch.randn(5, 5)
    own = several(scores, torch.eye(5, dtype=torch.bool))
    assert torch.allclose(own, torch.nn.functional.cross_entropy(scores, torch.arange(5)))
    assert several(scores, torch.zeros(5, 5, dtype=torch.bool)) == 0


def test_fits_agrees_with_a_loop() -> None:
    torch.manual_seed(0)
    things, codes = torch.randint(1, 3, (4, 6, 4)), torch.randint(1, 3, (5, 4))
    said = torch.rand(5, 4) < 0.5
    for b, picture in enumerate(things):
        for t, code in enumerate(codes):
            slow = any(all(thing[k] == code[k] for k in range(4) if said[t, k]) for thing in picture)
            assert bool(fits(things, codes, said)[b, t]) == slow


def test_owners_agree_with_a_count() -> None:
    maps = torch.from_numpy(np.random.default_rng(0).choice([0, 1, 255], (2, 16, 16)).astype(np.uint8))
    for picture, row in zip(maps, owners(maps, 8), strict=True):
        for number, owner in enumerate(row.tolist()):
            cell = picture[8 * (number // 2) :][:8, 8 * (number % 2) :][:, :8]
            counts = [(cell == k).sum().item() for k in (0, 1)]
            assert owner == (int(np.argmax(counts)) if max(counts) > 0.3 * 64 else -1)


def test_windows_show_their_thing(book: SceneCache) -> None:
    torch.manual_seed(1)
    view = windows(book, clear_things(book)[:6], CLIP)
    assert view.pixels.shape[2] == 32 and view.where.shape == view.truth.shape[:2]
    assert (view.truth[..., 0].amax(1) == view.codes[:, 0]).all()
    assert view.where.min() >= 0 and view.where.max() < CLIP.side**2


def test_of_things_painted_over_shape_and_size_are_told(book: SceneCache) -> None:
    talk = speech(book, tokenizer(), CLIP.length)
    torch.manual_seed(0)
    covered = torch.tensor([True, False, True, False])
    plain = scenes(book, talk, [0, 1, 2, 3], CLIP, vary=False)
    view = scenes(book, talk, [0, 1, 2, 3], CLIP, vary=False, covered=covered)
    on = torch.from_numpy(book.take([0, 1, 2, 3])[1] != 255)
    changed = (view.pixels != plain.pixels).any(1)
    assert changed[covered][on[covered]].float().mean() > 0.95
    assert not changed[covered][~on[covered]].any() and not changed[~covered].any()
    assert torch.equal(view.truth[..., ::3], plain.truth[..., ::3])
    assert set(view.truth[covered][..., 1:3].unique().tolist()) <= {-1, 0}
    loss = shown([torch.zeros(4, 16, 9) for _ in range(4)], view.truth, ground=0.0)
    assert torch.allclose(loss, 4 * torch.tensor(9.0).log())


def test_left_and_right_are_exchanged_in_mirrored_texts() -> None:
    words = tokenizer()
    left, right = words.convert_tokens_to_ids(["left", "right"])
    ids = torch.tensor([words("left of").input_ids, words("left of").input_ids])
    turned = mirrored_text(ids, torch.tensor([True, False]), left, right)
    assert words.decode(turned[0], skip_special_tokens=True) == "right of"
    assert torch.equal(turned[1], ids[1])


def test_texts_in_a_pack_see_the_picture_and_themselves() -> None:
    pack = packed([[([5, 6], 1), ([7, 8, 9], 2)]], begin=2, pad=0)
    mask = allowed(pack.segment, patches=2)[0]
    slow = torch.zeros(8, 8, dtype=torch.bool)
    owner = [0, 0, 0, 1, 1, 2, 2, 2]
    for i in range(8):
        for j in range(i + 1):
            slow[i, j] = owner[j] in (0, owner[i])
    assert torch.equal(mask, slow)
    assert pack.targets.tolist() == [6, 8, 9]
    kept = torch.tensor([[0, 1]])
    assert pack.places(kept, 2).tolist() == [[0, 1, 2, 3, 4, 3, 4, 5]]


def test_packed_answers_are_those_of_a_plain_call() -> None:
    words = tokenizer(closing=False)
    clip = new_clip(CLIP, words)
    talker = Talker(new_llava(clip, words, LLAVA)).eval()
    pixels = torch.randn(1, 3, 32, 32)
    one = words("what colour is the cone ? red", add_special_tokens=False).input_ids
    two = words("how many cubes are there ? two", add_special_tokens=False).input_ids
    pack = packed([[(one, 1), (two, 1)]], words.bos_token_id, words.pad_token_id)
    with torch.no_grad():
        own = talker.answer(talker.picture(pixels), pack)
        for text, row in zip((one, two), own, strict=True):
            image = [words.convert_tokens_to_ids("<image>")] * 16
            ids = torch.tensor([[words.bos_token_id, *image, *text]])
            plain = talker.llava(input_ids=ids, pixel_values=pixels).logits[0, -2]
            assert torch.allclose(row, plain, atol=1e-5)


def test_patches_with_a_thing_are_shown_first() -> None:
    truth = torch.zeros(1, 10, 4, dtype=torch.long)
    truth[0, [2, 7]] = 1
    picked = chosen(truth, 4)[0].tolist()
    assert {2, 7} <= set(picked) and picked == sorted(picked) and len(picked) == 4


def test_prompts_fit_their_masks() -> None:
    torch.manual_seed(0)
    masks = torch.zeros(2, 3, 32, 32, dtype=torch.bool)
    masks[:, :, 4:20, 6:30] = True
    x, y = inner_points(masks)[..., 0, :].unbind(-1)
    assert ((x > 6) & (x < 30) & (y > 4) & (y < 20)).all()
    assert tight_boxes(masks)[0, 0].tolist() == [6, 4, 30, 20]
    kinds = [ask(masks, SAM, draw) for draw in (0.1, 0.5, 0.75, 0.85, 0.95)]
    given = [(p.boxes is not None, p.points is not None, p.drafts is not None) for p in kinds]
    assert given == [(1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)]
    empty = torch.zeros(1, 4, dtype=torch.bool)
    assert overlap(empty, empty) == 1


def test_a_tiny_nano_clip_is_whole(clip_folder: Path) -> None:
    verify_manifest(clip_folder)
    facts = read_json(clip_folder / "training.json")
    backbone = load_backbone(clip_folder)
    assert facts["golden"] == golden(backbone.model, CLIP.size)
    assert facts["steps"]["scenes"] == facts["steps"]["painted"] == 2
    assert facts["scores"]["pairs never seen"].keys() == {"pair", "shape", "material", "colour"}
    assert backbone.embed_texts(["a red cube"]).shape == (1, 16)
    assert backbone.features(torch.zeros(1, 3, 32, 32)).grid == (4, 4)
    assert "No photograph was used" in (clip_folder / "README.md").read_text()


def test_a_stopped_run_goes_on_with_the_same_bits(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.nano import clip_train
    from wildsight.files import cache_folder

    monkeypatch.setenv("WILDSIGHT_CACHE", str(tmp_path / "cache"))
    train, calls = clip_train.train, []

    def stopping(model: Any, data: Any, step: Any, config: Any, **options: Any) -> Any:
        def once(network: Any, batch: Any) -> Any:
            calls.append(batch)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return step(network, batch)

        from dataclasses import replace

        return train(model, data, once, replace(config, checkpoint_seconds=0.0), **options)

    monkeypatch.setattr(clip_train, "train", stopping)
    with pytest.raises(KeyboardInterrupt):
        pretrain_clip(tmp_path / "again", config=CLIP, progress=False)
    assert any(cache_folder("pretrain").glob("nano-clip-*/*/state"))
    monkeypatch.setattr(clip_train, "train", train)
    pretrain_clip(tmp_path / "again", config=CLIP, progress=False)
    first, second = (load_backbone(f).model.state_dict() for f in (clip_folder, tmp_path / "again"))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_a_tiny_nano_llava_is_whole(clip_folder: Path, tmp_path: Path) -> None:
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = pretrain_llava(tmp_path / "llava", tower=str(clip_folder), config=LLAVA, progress=False)
    again = pretrain_llava(tmp_path / "again", tower=str(clip_folder), config=LLAVA, progress=False)
    assert (folder / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    verify_manifest(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder)
    content = [{"type": "image"}, {"type": "text", "text": "what is there ?"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    assert prompt == "<image> what is there ?"
    batch = processor(images=Image.new("RGB", (40, 30)), text=prompt, return_tensors="pt")
    assert (batch.input_ids == model.config.image_token_index).sum() == 16
    model.generate(**{k: v for k, v in batch.items() if k != "token_type_ids"}, max_new_tokens=2)
    tower = load_backbone(clip_folder).model.vision_model.state_dict()
    own = model.model.vision_tower.state_dict()
    assert all(torch.equal(tower[k], own[k]) for k in tower)


def test_a_tiny_nano_sam_is_whole(clip_folder: Path, tmp_path: Path) -> None:
    from transformers import SamModel

    folder = pretrain_sam(tmp_path / "sam", tower=str(clip_folder), config=SAM, progress=False)
    verify_manifest(folder)
    model = SamModel.from_pretrained(folder, dtype=torch.float32)
    assert torch.equal(
        model.shared_image_embedding.positional_embedding,
        model.prompt_encoder.shared_embedding.positional_embedding,
    )
    out = model(pixel_values=torch.zeros(1, 3, 32, 32), input_boxes=torch.tensor([[[2.0, 2, 20, 20]]]))
    assert out.pred_masks.shape == (1, 1, 3, 16, 16)
    assert set(read_json(folder / "training.json")["scores"]) >= {"box", "point", "draft and point"}


def test_sam_starts_with_the_eyes_of_clip() -> None:
    from dataclasses import replace

    clip = new_clip(CLIP, tokenizer()).eval()
    own = replace(SAM, window=4, channels=64)
    sam = new_sam(own)
    pictures = torch.rand(2, 32, 32, 3) * 255
    begin_as(sam, clip, pictures)
    tower, encoder = clip.vision_model, sam.vision_encoder
    hidden = torch.randn(1, 16, 64)
    with torch.no_grad():
        old = tower.encoder.layers[0](hidden, None)
        new = encoder.layers[0](hidden.view(1, 4, 4, 64))[0]
        entered = encoder.patch_embed(normalised(pictures)) + encoder.pos_embed
        patches = tower.embeddings(normalised(pictures))[:, 1:]
        wanted = tower.pre_layrnorm(patches).view(2, 4, 4, 64)
    assert torch.allclose(new.view(1, 16, 64), old, atol=1e-4)
    assert torch.nn.functional.cosine_similarity(entered, wanted, dim=3).mean() > 0.95


def test_a_fresh_mask_token_looks_at_the_middle_of_the_box() -> None:
    own = NanoSamConfig(size=128, width=64, layers=1)
    sam, seen = new_sam(own), []
    block = sam.mask_decoder.transformer.layers[0].cross_attn_token_to_image
    block.register_forward_hook(lambda _m, _i, output: seen.append(output[1]))
    boxes = torch.tensor([[[16.0, 16, 64, 64], [72.0, 64, 120, 112], [24.0, 72, 72, 120]]])
    sam(pixel_values=torch.zeros(1, 3, 128, 128), input_boxes=boxes)
    grid = torch.arange(16) * 8 + 4.0
    for look, box in zip(seen[0].mean(1)[:, 1].view(3, 16, 16), boxes[0], strict=True):
        middle = torch.stack([(look.sum(0) * grid).sum(), (look.sum(1) * grid).sum()]) / look.sum()
        wanted = (box[:2] + box[2:]) / 2
        assert (middle - wanted).norm() < (middle - (128 - wanted)).norm()


def test_the_designs_are_what_the_tasks_need() -> None:
    words = tokenizer(closing=False)
    clip = new_clip(ClipConfig(), words)
    llava = new_llava(clip, words, NanoLlavaConfig())
    text = llava.config.text_config
    assert clip.config.vision_config.num_attention_heads >= 4 and ClipConfig().side ** 2 >= 144
    assert text.num_hidden_layers >= 6 and text.num_key_value_heads < text.num_attention_heads
    assert clip.config.text_config.eos_token_id != 2
    sam = new_sam(NanoSamConfig())
    total = sum(p.numel() for model in (clip, llava, sam) for p in model.parameters())
    assert 2 * total < 23e6


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 scenes"):
        cached_scenes(0)
    with pytest.raises(ConfigError, match="steps=0"):
        pretrain_sam(tmp_path / "x", config=NanoSamConfig(steps=0))
    with pytest.raises(ConfigError, match="no nano checkpoint"):
        pretrain_llava(tmp_path / "x", tower="nano-none")
