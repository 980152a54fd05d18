"""The schematics of the methods and of the house: what flows where, what is frozen, what is trained.

    python docs/make_figures.py

writes ``docs/assets/method-*.svg`` and ``docs/assets/house.svg``. Symbols are those of each method's file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from make_layout import Box, Cell, Sheet

ASSETS = Path(__file__).resolve().parent / "assets"


def ras() -> Sheet:
    """RAS: reconstruct as a sequence of gated steps."""
    s = Sheet("RAS: frozen features are reconstructed step by step; what cannot be is anomalous")
    side = {"right": 30.0}
    s.row(Box("x", "data", "picture"), **side)
    s.row(Box("net", "frozen", "backbone", "its layers side by side: C channels per token"), **side)
    s.row(Box("f", "formula", "f", "mean over each token's 3 × 3 neighbourhood"), **side)
    s.row(Box("jitter", "loss", "jitter", "f_i + 1.516 · ‖f_i‖ / √C · noise"), **side)
    s.row(Box("enc", "trained", "encoder → l_0", "T_e = 2 layers; no token sees its own 7 × 7"), **side)
    with s.frame("t = 1 … T_d = 4", **side):
        s.row(Box("gate", "trained", "gate", "a_t = σ(W_A [c_t ; l_{t−1}]),  g_t = a_t · l_{t−1}"))
        words = "u_t = LN(c_t + MHA(c_t + p, g_t + p, g_t))"
        s.row(Box("mix", "trained", "the step's context c_t asks g_t", words))
        s.row(Box("next", "trained", "l_t", "LN((W_U l_{t−1} + FFN(u_t)) / 2)"))
    s.row(Box("out", "trained", "f\u0302", "one projection, behind the last step"), **side)
    ends = Box("map", "data", "heat map, score", "‖f\u0302_i − f_i‖ per token; the largest window mean")
    s.row(ends, Box("loss", "loss", "loss", "mean squared error of f\u0302 against f"), **side)
    way = ("x", "net", "f", "jitter", "enc", "gate", "mix", "next", "out")
    for a, b in pairwise(way):
        s.arrow(a, b)
    s.arrow("out", "map")
    s.arrow("out", "loss", loss=True)
    s.arrow("f", "loss", lane=399, loss=True)
    return s


def spt() -> Sheet:
    """SPT: draft, then refine."""
    s = Sheet("SPT: a frozen SAM in two passes, with low-rank updates and a relation between patches")
    s.row(Box("p", "data", "prompt", "box, points"), Box("x", "data", "picture", share=2.1))
    s.row(
        Box("penc", "frozen", "prompt encoder"), Box("enc", "frozen", "image encoder"),
        Box("lora", "trained", "LoRA", "r = 8, on q and v"),
    )  # fmt: skip
    s.row(
        Box("sparse", "formula", "prompt tokens"), Box("e", "formula", "x", "image tokens"),
        Box("rel", "formula", "R", "softmax(x\u0302 x\u0302^T/t),\nx\u0302 = x/‖x‖, no\ndiagonal"),
    )  # fmt: skip
    with s.frame("pass 1"):
        s.row(Box("d1", "frozen", "mask decoder", "two-way blocks, keys K", 1.6), _beside("a1"))
    s.row(Box("draft", "formula", "draft logits", "the mask prompt of pass 2; no gradient goes back"))
    with s.frame("pass 2"):
        words = "same weights, prompt, tokens and R"
        s.row(Box("d2", "frozen", "mask decoder", words, 1.6), _beside("a2"))
    words = "cross-entropy + Dice, both passes"
    s.row(Box("mask", "data", "mask"), Box("loss", "loss", "loss", words, 1.6))
    s.arrow("p", "penc")
    s.arrow("x", "enc", into=210)
    s.arrow("lora", "enc")
    s.arrow("penc", "sparse")
    s.arrow("enc", "e")
    s.arrow("e", "rel")
    s.arrow("sparse", "d1", into=90)
    s.arrow("e", "d1", into=200)
    s.arrow("rel", "a1")
    s.arrow("a1", "d1")
    s.arrow("d1", "draft", x=130)
    s.arrow("draft", "d2", x=130)
    s.arrow("a2", "d2")
    s.arrow("d2", "mask", x=76)
    s.arrow("d2", "loss", x=200, loss=True)
    return s


def _beside(name: str) -> Box:
    return Box(name, "trained", "LoRA, and γ", "K ← K + (R K) · γ")


def hdaoe() -> Sheet:
    """HDA-OE: three branches, mixed pictures, gated words."""
    s = Sheet("HDA-OE: three branches on a frozen vector; mixed pictures and gated words in training")
    s.row(Box("x", "data", "picture"), Box("w", "data", "words", "attributes, objects"), right=22)
    s.row(
        Box("net", "frozen", "backbone", "one vector v"),
        Box("table", "trained", "word vectors", "text tower's (or drawn) + a learned change"), right=22,
    )  # fmt: skip
    s.row(
        Box("za", "trained", "z_a", "attribute"), Box("zc", "trained", "z_c", "pair"),
        Box("zo", "trained", "z_o", "object"), right=22,
    )  # fmt: skip
    words = "w ← w · (1 + tanh(G z_c)), for attribute and object apart"
    s.row(
        Box("gate", "trained", "gates (SDDE)", words, 1.2),
        Box("pair", "trained", "composer", "w_a, w_o → prototype of the pair"), right=22,
    )  # fmt: skip
    words = "cos(z_c, prototype)\n+ cos(z_a, gated w_a) + cos(z_o, gated w_o)"
    s.row(Box("score", "formula", "score of a pair (a, o)", words), right=22)
    words = "cross-entropy of pair, attribute and object"
    s.row(Box("out", "data", "pairs with\nprobabilities"), Box("base", "loss", "L_{base}", words), right=22)
    mixed = "λ_1 z_c + λ_2 z_c' of the same object, another attribute; against the same mix of words"
    s.row(
        Box("adds", "loss", "L_{mix} (ADDS)", mixed, 1.25),
        Box("dec", "loss", "L_{dec} (SDDE)", "z_a and z_o together name the pair"), right=22, rise=14,
    )  # fmt: skip
    s.note("L = α (L_{base} + L_{mix}) + β L_{dec}")
    s.arrow("x", "net")
    s.arrow("w", "table")
    for name in ("za", "zc", "zo"):
        s.arrow("net", name)
    s.arrow("table", "pair", lane=400)
    s.arrow("zc", "gate", x=180)
    s.arrow("gate", "score")
    s.arrow("pair", "score")
    s.arrow("score", "out")
    s.arrow("score", "base", loss=True, x=300)
    return s


def ramln() -> Sheet:
    """RAMLN: a quadruplet whose margin is meta-learned."""
    s = Sheet("RAMLN: an adapter under a quadruplet loss whose margin a meta-learned network gives")
    s.row(Box("sketch", "data", "sketch"), Box("photo", "data", "photo"))
    s.row(Box("net", "frozen", "vision tower", "one for both"))
    s.row(Box("adapter", "trained", "adapter, last layer H", "standardises each modality; two hidden layers"))
    s.row(Box("z", "formula", "unit vectors z"))
    s.row(
        Box("out", "data", "photos by D", "D: Euclidean distance to the sketch"),
        Box("mine", "loss", "hardest of the batch", "p: other modality; n_1: own, n_2: other one", 1.2),
    )  # fmt: skip
    words = "v = D(a, p) − (1−λ) D(a, n_1) − λ D(a, n_2) + μ\nL = mean φ(v) + γ · cross-entropy of classes"
    s.row(Box("v", "loss", "quadruplet", words))
    words = "h = tanh g([z, r, distances, modality])\nμ = μ_0 + κ (h − mean h)"
    s.row(
        Box("margin", "trained", "margin network g", words, 1.5),
        Box("memory", "formula", "memory M", "r = softmax(z M^T / τ) M"),
    )  # fmt: skip
    words = "one step H' = H − α ∇L with these margins, on some classes; g descends InfoNCE of H' on others"
    s.row(Box("meta", "loss", "what trains g", words))
    s.note("The task's default keeps μ = μ_0 and leaves g and M out; the method ramln has them.")
    s.arrow("sketch", "net")
    s.arrow("photo", "net")
    s.arrow("net", "adapter")
    s.arrow("adapter", "z")
    s.arrow("z", "out")
    s.arrow("z", "mine", loss=True)
    s.arrow("mine", "v", loss=True)
    s.arrow("margin", "v", "μ", loss=True)
    s.arrow("memory", "margin", loss=True)
    s.arrow("meta", "margin", loss=True)
    return s


def nngcd() -> Sheet:
    """NN-GCD: non-negative codes beside a prototype classifier."""
    s = Sheet("NN-GCD: the last block, a non-negative projector and prototypes on frozen tokens")
    lane = {"right": 22.0}
    s.row(
        Box("x", "data", "picture", "labelled or not"),
        Box("view", "loss", "two views", "a random one, and the whole"), **lane,
    )  # fmt: skip
    s.row(Box("net", "frozen", "backbone below its last block", "its tokens are computed once"), **lane)
    words = "in a network without blocks: a small residual one"
    s.row(Box("tail", "trained", "last block → z", words), **lane)
    s.row(
        Box("u", "trained", "projector → u", "last activation GELU: nearly non-negative; unit rows"),
        Box("k", "trained", "K prototypes", "cosines with z; the first are the known classes"), **lane,
    )  # fmt: skip
    likely = "likely friends weigh less as negatives (w_{ij}); labelled ones attract"
    told = "labels; the teacher's answer to the other view; L_{me}: all groups in use"
    s.row(
        Box("nce", "loss", "L_{nce} + L_{supcon}", likely), Box("cls", "loss", "L_{cls} + L_{cluster}", told),
        **lane,
    )  # fmt: skip
    s.row(
        Box("hsr", "loss", "L_{hsr}", "sparsity of the trained weight matrices"),
        Box("ema", "loss", "teacher", "running mean of the prototypes"), **lane,
    )  # fmt: skip
    s.row(Box("out", "data", "group", "the nearest prototype"), **lane)
    s.note("L = (1−l)(L_{cluster} + ε L_{me} + L_{nce}) + l (L_{cls} + L_{supcon}) + ρ L_{hsr}")
    for a, b in (("x", "net"), ("net", "tail"), ("tail", "u"), ("tail", "k")):
        s.arrow(a, b)
    for a, b in (("x", "view"), ("view", "net"), ("u", "nce"), ("k", "cls"), ("ema", "cls")):
        s.arrow(a, b, loss=True)
    s.arrow("k", "out", lane=400)
    return s


def mulki() -> Sheet:
    """MulKI: two teachers, prototypes, averages."""
    s = Sheet("MulKI: a CLIP learns a task under two teachers, weighted picture by picture")
    lane = {"right": 18.0}
    s.row(Box("x", "data", "the task's pictures and class names"), **lane)
    s.row(
        Box("zero", "frozen", "first model", "f_0, G_0"), Box("prev", "frozen", "model before", "f_p, G_p"),
        Box("net", "trained", "CLIP", "f, G: both towers"), **lane,
    )  # fmt: skip
    words = "w_m(x) = softmax_m(−CE(s f_m G_m^T, y) / κ)"
    s.row(Box("w", "loss", "3  who knows this picture", words), right=122)
    words = "Σ w_m: features like the teacher's; the same relations (KL) of picture, prototypes and texts"
    s.row(
        Box("kd", "loss", "2  L_{kd}", words, 1.9),
        Box("ce", "loss", "L_{ce} + L_{csa}", "labels; a prototype beside its text"), **lane,
    )  # fmt: skip
    words = "begin at the means of f_0; P_c ← N(μ P_c + (1−μ) mean f)"
    s.row(Box("p", "loss", "1  prototypes", words), **lane)
    words = "running mean of the weights in a task; then α mean + (1−α) the model before"
    s.row(Box("merge", "formula", "4  averages", words), **lane)
    s.row(Box("out", "data", "the next model"), **lane)
    s.note("L = L_{ce} + l_1 L_{csa} + l_2 L_{kd}. Pictures of other tasks are neither kept nor seen.")
    for name in ("zero", "prev", "net"):
        s.arrow("x", name)
    s.arrow("zero", "w")
    s.arrow("prev", "w")
    s.arrow("w", "kd")
    s.arrow("net", "kd", x=306, into=230)
    s.arrow("net", "ce", x=340)
    s.arrow("p", "kd", loss=True)
    s.arrow("p", "ce", loss=True)
    s.arrow("net", "merge", lane=400)
    s.arrow("merge", "out")
    return s


def pwrf() -> Sheet:
    """PWRF: part capsules routed to wholes."""
    s = Sheet("PWRF: part capsules of every sensor are routed to whole capsules of the fused map")
    lane = {"right": 20.0}
    s.row(
        Box("a", "data", "RGB"), Box("b", "data", "depth"),
        Box("c", "data", "thermal …", "any may be missing", 1.3), **lane,
    )  # fmt: skip
    s.row(Box("net", "frozen", "backbone", "frozen by default; maps of each sensor at three scales"), **lane)
    words = "each sensor's map at A channels (at two scales; the finest is concatenated)"
    s.row(Box("z", "trained", "z_1 … z_M", words), **lane)
    with s.frame("rows; columns apart", **lane):
        words = "the other axis is collapsed; T = 8 per sensor: a pose of 4 × 4 and an activation"
        s.row(Box("part", "trained", "part capsules", words))
        words = "votes V = P W; three rounds of M- and E-step share the parts out (R, Q)"
        s.row(Box("route", "trained", "EM routing", words))
        s.row(
            Box("whole", "formula", "C = 8 wholes", "what sensors share"),
            Box("omega", "formula", "coefficients", "each sensor's share in the wholes (from Q)"),
        )
    s.row(
        Box("shared", "trained", "shared map", "z_1 … z_M and wholes (rows × columns)"),
        Box("own", "trained", "specific map", "z_m and its weighed parts, joined with shared, gated"), **lane,
    )  # fmt: skip
    s.row(Box("head", "trained", "head", "all scales together"), **lane)
    s.row(Box("mask", "data", "mask"), Box("says", "data", "shares", "who contributed where"), **lane)
    for name in ("a", "b", "c"):
        s.arrow(name, "net")
    for one, two in (("net", "z"), ("z", "part"), ("part", "route"), ("route", "whole"), ("route", "omega")):
        s.arrow(one, two)
    s.arrow("whole", "shared")
    s.arrow("omega", "own")
    s.arrow("shared", "own")
    s.arrow("shared", "head")
    s.arrow("own", "head")
    s.arrow("head", "mask")
    s.arrow("omega", "says", lane=404)
    return s


def llmi3d() -> Sheet:
    """LLMI3D: a query token behind the question, read as a box."""
    s = Sheet("LLMI3D: a frozen multimodal model with LoRA; a query token is read as a box in metres")
    lane = {"right": 20.0}
    s.row(Box("x", "data", "picture", share=2.1), Box("q", "data", "question"), **lane)
    s.row(
        Box("tower", "frozen", "vision tower", "tokens t_j"), Box("cnn", "frozen", "CNN", "fine map f_p"),
        Box("depth", "trained", "depth D_p", "soft-argmax, K_d bins"), **lane,
    )  # fmt: skip
    words = "each token asks its own window of the fine map; keys and values know depth and direction"
    s.row(Box("local", "trained", "t'_j = t_j + MLP(window attention)", words), **lane)
    asks = Box("query", "trained", "3D query token", "behind the question")
    s.row(Box("proj", "trained", "projector"), asks, **lane)
    beside = Box("lora", "trained", "LoRA", "r = 8 on q, v")
    s.row(Box("llm", "frozen", "language model", "reads once", 1.6), beside, **lane)
    words = "place, size, turn, depth z_v, its spread, “there”"
    s.row(
        Box("heads", "trained", "heads on the query's state", words, 1.6),
        Box("words", "data", "answer", "in words"), **lane,
    )  # fmt: skip
    words = "z = z_v · f / f_v, f_v = 512 px; then unprojected"
    s.row(Box("geo", "formula", "virtual camera", words, 1.6), Box("f", "data", "focal length f"), **lane)
    s.row(Box("box", "data", "box in metres with its spread, or “not there”"), **lane)
    s.note("The losses of box, answer and depth map are descended together.")
    s.arrow("x", "tower")
    s.arrow("x", "cnn", into=200)
    s.arrow("cnn", "depth")
    for name in ("tower", "cnn", "depth"):
        s.arrow(name, "local")
    s.arrow("local", "proj")
    s.arrow("proj", "llm", x=110)
    s.arrow("query", "llm", into=220)
    s.arrow("q", "query", lane=404)
    s.arrow("lora", "llm")
    s.arrow("llm", "heads", x=130)
    s.arrow("llm", "words", x=220, into=320)
    s.arrow("heads", "geo", x=130)
    s.arrow("f", "geo")
    s.arrow("geo", "box")
    return s


def vtc_cls() -> Sheet:
    """VTC-CLS: what [CLS] attends to stays."""
    s = Sheet("VTC-CLS: the visual tokens that the class token attends to go on to the language model")
    s.row(Box("x", "data", "picture"))
    words = "[CLS] and N patches; features are taken at layer l"
    s.row(Box("tower", "frozen", "vision tower", words))
    words = "softmax(q_{CLS} k^T / √d), mean over heads; K = 3 layers up to l"
    s.row(Box("row", "formula", "attention of [CLS]", words, 2), Box("proj", "frozen", "projector"))
    s.row(Box("mean", "formula", "score of a patch", "mean of K rows", cells=_heights(), art=34), right=139)
    s.row(Box("keep", "formula", "the U highest stay", "in the order of the picture", cells=_kept(), art=54))
    reads = Box("llm", "frozen", "language model", "reads U tokens in place of N", 2)
    s.row(Box("text", "data", "prompt"), reads)
    s.row(Box("out", "data", "answer"))
    s.note("Nothing is trained, and no text is looked at. Positions are counted anew.")
    way = ("x", "tower", "row", "mean", "keep", "llm", "out")
    for a, b in pairwise(way):
        s.arrow(a, b)
    s.arrow("tower", "proj")
    s.arrow("proj", "keep")
    s.arrow("text", "llm")
    return s


SCORES = (2, 3, 9, 4, 1, 2, 8, 10, 5, 2, 1, 3, 7, 9, 3, 2, 6, 1, 2, 8, 4, 1, 2, 3)


def _heights() -> list[Cell]:
    wide = 1 / len(SCORES)
    best = _best()
    return [
        (i * wide, 1 - v / 10, wide * 0.7, v / 10, "kept" if i in best else "data")
        for i, v in enumerate(SCORES)
    ]


def _best() -> list[int]:
    return sorted(range(len(SCORES)), key=lambda i: (-SCORES[i], i))[:7]


def _kept() -> list[Cell]:
    best = _best()
    size = 1 / 12
    return [
        (i % 12 * size, i // 12 * 0.5, size * 0.8, 0.42, "kept" if i in best else "data")
        for i in range(len(SCORES))
    ]


def prefixkv() -> Sheet:
    """PrefixKV: one share of the attention for every layer."""
    s = Sheet("PrefixKV: every layer keeps the cache that holds the same share of its attention")
    s.row(Box("x", "data", "prompt", "tokens of picture and text"))
    s.row(Box("llm", "frozen", "language model", "layer l = 1 … L: queries, keys and values"))
    s.row(Box("imp", "formula", "importance of token n in layer l", "I_n = Σ_q mean_h A_{h,q,n}"))
    words = "P^l(o): share of I that the o best tokens hold"
    s.row(Box("mass", "formula", "each layer sorted", words))
    words = "one share p for all layers, so that the o_l sum to the budget"
    s.row(Box("size", "formula", "layer sizes o_l", words, cells=_sizes(), art=72))
    s.row(Box("keep", "formula", "cache of layer l", "its o_l best tokens; first and last always stay"))
    words = "a layer one token over its share of all seen overwrites its oldest behind the frozen front"
    s.row(Box("decode", "formula", "while the answer is written", words))
    s.row(Box("out", "data", "answer"))
    s.note("Nothing is trained. Sizes come from a profile of N = 10 prompts, or from each prompt itself.")
    way = ("x", "llm", "imp", "mass", "size", "keep", "decode", "out")
    for a, b in pairwise(way):
        s.arrow(a, b)
    return s


def _sizes() -> list[Cell]:
    kept = (0.86, 0.62, 0.4, 0.28, 0.34, 0.2)
    cells: list[Cell] = []
    for i, share in enumerate(kept):
        cells += [(0, i / 6, 1, 0.12, "data"), (0, i / 6, share, 0.12, "kept")]
    return cells


TASKS = (
    "anomaly", "segmentation", "composition", "retrieval", "discovery", "continual", "fusion", "spatial",
    "compression",
)  # fmt: skip


def house() -> Sheet:
    """The floors, from what a person touches down to bytes."""
    s = Sheet("The house of WildSight: each floor imports from those below it alone")
    s.roof("a person: terminal, browser, script")
    words = "a command per task · check · bench · methods · report · tour · inspect · world"
    words += " · pretrain · doctor"
    page = Box("app", "formula", "app", "in the browser, a tab per task")
    s.row(Box("cli", "formula", "cli", words, 2), page)
    s.row(Box("flows", "formula", "workflows", "tour · inspect · refine · compare"))
    for i in range(0, 9, 3):
        s.row(*(Box(n, "trained", n) for n in TASKS[i : i + 3]), rise=8 if i else 24)
    words = "estimators · backbones · training · world · report · export"
    s.row(Box("two", "formula", "shared machinery", words))
    s.row(Box("one", "formula", "datasets", "benchmark folders · masks · lists · class names"))
    s.row(Box("zero", "formula", "ground", "images · sources · results · files · devices · keep · errors"))
    for floor, name in ((5, "cli"), (4, "flows"), (3, "anomaly"), (2, "two"), (1, "one"), (0, "zero")):
        s.notes.append((12, s.boxes[name].y - 6, f"floor {floor}", "b"))
    return s


FIGURES: dict[str, Callable[[], Sheet]] = {
    "ras": ras, "spt": spt, "hdaoe": hdaoe, "ramln": ramln, "nngcd": nngcd, "mulki": mulki, "pwrf": pwrf,
    "llmi3d": llmi3d, "vtc-cls": vtc_cls, "prefixkv": prefixkv,
}  # fmt: skip


def files() -> dict[str, str]:
    """Name and text of every picture."""
    made = {f"method-{name}.svg": figure().svg() for name, figure in FIGURES.items()}
    return made | {"house.svg": house().svg(legend=False)}


def main() -> None:
    """Write every picture."""
    for name, text in files().items():
        (ASSETS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
