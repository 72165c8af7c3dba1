"""Networks of known families are read in full; what differs in one array, or is not told, is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from topostrata.errors import InvalidInputError
from topostrata.ingest.families.table import FAMILIES
from topostrata.ingest.formats.reading import read
from topostrata.ingest.inspection import Inspection, inspect
from topostrata.topology import Topology, Wiring

Shapes = dict[str, tuple[int, ...]]


def weights(shapes: Shapes) -> dict[str, np.ndarray]:
    """Sparse weights of these shapes, the same whenever they are asked for."""
    random = np.random.default_rng(3)
    return {
        name: (random.random(shape) < 0.4) * random.normal(1, 0.1, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def tensors(path: Path, arrays: dict[str, Any], config: dict[str, Any] | None = None) -> Path:
    path.parent.mkdir(exist_ok=True)
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    if config is not None:
        path.with_name("config.json").write_text(json.dumps(config))
    return path


def one(path: Path, **options: Any) -> Topology:
    (frame,) = read(path, **options)
    return frame.topology


def looked(tmp_path: Path, shapes: Shapes, **options: Any) -> Inspection:
    return inspect(tensors(tmp_path / "net.safetensors", weights(shapes)), **options)


def batch_norm(name: str, size: int) -> Shapes:
    return {f"{name}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")}


RESNET: Shapes = {
    "conv1.weight": (8, 3, 7, 7),
    **batch_norm("bn1", 8),
    "layer1.0.conv1.weight": (8, 8, 3, 3),
    **batch_norm("layer1.0.bn1", 8),
    "layer1.0.conv2.weight": (8, 8, 3, 3),
    **batch_norm("layer1.0.bn2", 8),
    "layer2.0.conv1.weight": (16, 8, 3, 3),
    **batch_norm("layer2.0.bn1", 16),
    "layer2.0.conv2.weight": (16, 16, 3, 3),
    **batch_norm("layer2.0.bn2", 16),
    "layer2.0.downsample.0.weight": (16, 8, 1, 1),
    **batch_norm("layer2.0.downsample.1", 16),
    "fc.weight": (10, 16),
    "fc.bias": (10,),
}
GPT_2: Shapes = {
    "transformer.wte.weight": (50, 8),
    "transformer.wpe.weight": (20, 8),
    "transformer.h.0.ln_1.weight": (8,),
    "transformer.h.0.attn.bias": (1, 1, 20, 20),
    "transformer.h.0.attn.c_attn.weight": (8, 24),
    "transformer.h.0.attn.c_attn.bias": (24,),
    "transformer.h.0.attn.c_proj.weight": (8, 8),
    "transformer.h.0.mlp.c_fc.weight": (8, 32),
    "transformer.h.0.mlp.c_proj.weight": (32, 8),
    "transformer.ln_f.weight": (8,),
}
LLAMA: Shapes = {
    "model.embed_tokens.weight": (50, 8),
    "model.layers.0.self_attn.q_proj.weight": (8, 8),
    "model.layers.0.self_attn.k_proj.weight": (4, 8),
    "model.layers.0.self_attn.v_proj.weight": (4, 8),
    "model.layers.0.self_attn.o_proj.weight": (8, 8),
    "model.layers.0.mlp.gate_proj.weight": (16, 8),
    "model.layers.0.mlp.up_proj.weight": (16, 8),
    "model.layers.0.mlp.down_proj.weight": (8, 16),
    "model.layers.0.input_layernorm.weight": (8,),
    "model.norm.weight": (8,),
    "lm_head.weight": (50, 8),
}
VIT: Shapes = {
    "cls_token": (1, 1, 8),
    "pos_embed": (1, 17, 8),
    "patch_embed.proj.weight": (8, 3, 4, 4),
    "blocks.0.norm1.weight": (8,),
    "blocks.0.attn.qkv.weight": (24, 8),
    "blocks.0.attn.proj.weight": (8, 8),
    "blocks.0.mlp.fc1.weight": (32, 8),
    "blocks.0.mlp.fc2.weight": (8, 32),
    "norm.weight": (8,),
    "head.weight": (10, 8),
}


def joins(wiring: Wiring) -> list[str]:
    return [f"{layer.name}: {layer.source.name} -> {layer.target.name}" for layer in wiring]


def test_a_resnet_has_a_stream_for_each_width(tmp_path: Path) -> None:
    """Blocks read the stream and add to it; a shortcut with weights begins the next; norms are left out and said."""
    inspection = looked(tmp_path, RESNET)
    assert inspection.question is None
    assert inspection.wiring is not None
    assert joins(inspection.wiring) == [
        "conv1: image -> stream",
        "layer1.0.conv1: stream -> layer1.0.inner",
        "layer1.0.conv2: layer1.0.inner -> stream",
        "layer2.0.conv1: stream -> layer2.0.inner",
        "layer2.0.conv2: layer2.0.inner -> layer2.0.stream",
        "layer2.0.downsample.0: stream -> layer2.0.stream",
        "fc: layer2.0.stream -> classes",
    ]
    assert inspection.evidence[0].startswith("its names and shapes are those of a ResNet of basic blocks (torchvision")
    assert "'bn1.weight'" in inspection.notes[-1]
    assert {array.name for array in inspection.arrays if array.taken} == {n for n, s in RESNET.items() if len(s) > 1}


def test_the_wiring_that_inspect_writes_reads_the_file_alike(tmp_path: Path) -> None:
    """``--write net.toml`` then ``--wiring net.toml`` is the same network."""
    path = tensors(tmp_path / "net.safetensors", weights(LLAMA))
    written = inspect(path, heads=4).to_toml()
    assert one(path, wiring=Wiring.from_toml(written)).digest == one(path, heads=4).digest


DIFFERENT: dict[str, tuple[Shapes, Shapes, str]] = {
    "a squeeze": (RESNET, {"layer1.0.se.fc1.weight": (2, 8)}, "se.fc1.weight' (2 x 8) is none of its parameters"),
    "a norm of another kind": (RESNET, {"layer1.0.gn.weight": (8,)}, "layer1.0.gn.weight' (8) is none of"),
    "a deep stem": (RESNET, {"conv1.weight": (), "conv1.0.weight": (8, 3, 3, 3)}, ""),
    "no shortcut": (RESNET, {"layer2.0.downsample.0.weight": ()}, "layer2.0.conv2.weight' has 16 targets, expected 8"),
    "another shortcut": (
        RESNET,
        {"layer2.0.downsample.0.weight": (), "layer2.0.downsample.1.weight": (16, 8, 1, 1)},
        "layer2.0.conv2.weight' has 16 targets, expected 8 as 'conv1.weight' has",
    ),
    "both shortcuts": (RESNET, {"layer2.0.shortcut.0.weight": (16, 8, 1, 1)}, "both 'layer2.0.downsample.0' and"),
    "a third layer": (RESNET, {"layer1.0.conv3.weight": (8, 8, 1, 1)}, "layer1.0.conv3.weight' (8 x 8 x 1 x 1) is none"),
    "a block left out": (RESNET, {"layer1.2.conv1.weight": (8, 8, 3, 3), "layer1.2.conv2.weight": (8, 8, 3, 3)}, "its blocks are 0, 2"),
    "a bias of another layer": (RESNET, {"fc.bias": (12,)}, "fc.bias' has shape 12"),
    "low ranks": (LLAMA, {"model.layers.0.self_attn.q_proj.lora_A.weight": (2, 8)}, "lora_A.weight' (2 x 8) is none of"),
    "experts": (LLAMA, {"model.layers.0.mlp.experts.0.up_proj.weight": (16, 8)}, "experts.0.up_proj.weight' (16 x 8)"),
    "cross attention": (GPT_2, {"transformer.h.0.crossattention.c_attn.weight": (8, 16)}, "crossattention.c_attn"),
    "norms of heads": (VIT, {"blocks.0.attn.q_norm.weight": (4,)}, "q_norm.weight' (4) is none of its parameters"),
    "relative positions": (VIT, {"blocks.0.attn.relative_position_bias_table": (49, 2)}, "relative_position_bias_table"),
    "thirds that are none": (VIT, {"blocks.0.attn.qkv.weight": (20, 8)}, "qkv.weight' has 20 targets, expected 3 equal"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_one_array_that_differs_is_a_question(tmp_path: Path, name: str) -> None:
    """Nothing is read; the question names the family that it resembles and the first array that does not fit."""
    shapes, more, words = DIFFERENT[name]
    changed = {key: shape for key, shape in (shapes | more).items() if shape}
    inspection = looked(tmp_path, changed, heads=2)
    assert inspection.question is not None
    assert "which layer feeds which is not in the file" in inspection.question
    assert words in inspection.question
    assert ("resembles a" in inspection.question) == bool(words)
    with pytest.raises(InvalidInputError):
        read(tmp_path / "net.safetensors", heads=2)


def test_norms_without_running_statistics_may_be_group_norms(tmp_path: Path) -> None:
    """It is asked, with the wiring of batch norms as a draft."""
    shapes = {name: shape for name, shape in RESNET.items() if "running" not in name}
    inspection = looked(tmp_path, shapes)
    assert "found 'bn1.weight' without running statistics" in str(inspection.question)
    draft = inspection.to_toml()
    assert "A draft: the wiring of a ResNet of basic blocks" in draft
    assert len(Wiring.from_toml(draft)) == 7


def test_masks_alone_say_that_norms_are_assumed(tmp_path: Path) -> None:
    """A file of masks has no norms."""
    masks = {f"masks.{name}": array != 0 for name, array in weights(RESNET).items() if array.ndim > 1}
    path = tensors(tmp_path / "masks.safetensors", masks)
    assert one(path).digest == one(tensors(tmp_path / "net.safetensors", weights(RESNET))).digest
    assert "as they are with batch norms" in inspect(path).notes[-1]


def test_heads_are_asked_for_unless_something_says_them(tmp_path: Path) -> None:
    """The option, the configuration beside the file, or a number in it; which, is said."""
    path = tensors(tmp_path / "net.safetensors", weights(VIT))
    inspection = inspect(path)
    assert "expected the number of heads of a Vision Transformer" in str(inspection.question)
    assert "--heads 12" in str(inspection.way_out)
    assert "A draft: the wiring of a Vision Transformer" in inspection.to_toml()
    told = one(path, heads=2)
    assert [axis.size for axis in told.layers[1].target.axes] == [2, 4]
    beside = tensors(tmp_path / "with" / "net.safetensors", weights(VIT), {"num_heads": 2})
    assert one(beside) == told
    assert "heads: 2, as config.json says (num_heads)" in inspect(beside).evidence
    assert one(beside, heads=4) != told
    differ = tensors(tmp_path / "two" / "net.safetensors", weights(VIT), {"num_heads": 2, "n_head": 4})
    assert inspect(differ).question is not None


def test_heads_that_do_not_divide_are_refused(tmp_path: Path) -> None:
    """Three heads of 8 queries are none."""
    with pytest.raises(InvalidInputError, match="expected widths that its heads divide, found 3 heads of 8 queries"):
        one(tensors(tmp_path / "net.safetensors", weights(VIT)), heads=3)
    with pytest.raises(InvalidInputError, match="heads: expected a number from 1 on, or unknown, found 0"):
        one(tmp_path / "net.safetensors", heads=0)


def test_unknown_heads_hold_the_units_of_attention_by_index(tmp_path: Path) -> None:
    """The draft and ``--heads unknown`` are the same wiring; shared keys cannot be read so."""
    path = tensors(tmp_path / "net.safetensors", weights(VIT))
    held = one(path, heads="unknown")
    assert [layer.target.labelled for layer in held][1:4] == [True] * 3
    assert Wiring.from_toml(inspect(path).to_toml()) == inspect(path, heads="unknown").wiring
    grouped = tensors(tmp_path / "llama.safetensors", weights(LLAMA))
    with pytest.raises(InvalidInputError, match="heads that share keys and values need their number"):
        one(grouped, heads="unknown")
    question = inspect(grouped)
    assert "number of heads" in str(question.question)
    assert "each layer has spaces of its own" in question.to_toml()


def test_queries_and_keys_that_positions_may_turn(tmp_path: Path) -> None:
    """Without position embeddings (rotary ones are no array) the places of q and k are fixed; so said."""
    whole = one(tensors(tmp_path / "net.safetensors", weights(VIT)), heads=2)
    assert [axis.fixed for axis in whole.layers[1].target.axes] == [False, False]
    bare = looked(tmp_path, {name: shape for name, shape in VIT.items() if name != "pos_embed"}, heads=2)
    assert bare.wiring is not None
    assert [axis.fixed for axis in bare.wiring.layers[1].target.axes] == [False, True]
    assert any("positions may turn q and k" in note for note in bare.notes)


def test_grouped_queries_follow_from_the_widths(tmp_path: Path) -> None:
    """Four heads of queries, two of keys and values; the output reads each value once for each query of its group."""
    topology = one(tensors(tmp_path / "net.safetensors", weights(LLAMA)), heads=4)
    assert [axis.size for axis in topology["layers.0.self_attn.q_proj"].target.axes] == [2, 2, 2]
    assert [axis.size for axis in topology["layers.0.self_attn.k_proj"].target.axes] == [2, 2]
    assert topology["layers.0.self_attn.o_proj"].taps == 2
    assert topology.nnz == sum(np.count_nonzero(a) for a in weights(LLAMA).values() if a.ndim == 2)


def test_gpt_2_in_both_orders_of_axes(tmp_path: Path) -> None:
    """transformers stores its matrices in-out, others out-in: the shapes tell, and it is one network."""
    arrays = weights(GPT_2)
    turned = {name: array.T if ".c_" in name and array.ndim == 2 else array for name, array in arrays.items()}
    stored = one(tensors(tmp_path / "net.safetensors", arrays), heads=2)
    assert one(tensors(tmp_path / "turned.safetensors", turned), heads=2) == stored
    assert [layer.name for layer in stored][2:5] == [f"transformer.h.0.attn.c_attn[{k}:{k + 8}]" for k in (0, 8, 16)]


def test_an_order_of_axes_that_nothing_tells(tmp_path: Path) -> None:
    """In an npz the rows may be either; where all matrices are square it is asked."""
    square = {
        name: shape if len(shape) < 2 else (8, 8) if "embed" not in name else shape
        for name, shape in LLAMA.items()
        if name != "lm_head.weight"
    }
    for name in list(square):
        if "k_proj" in name or "v_proj" in name:
            square[name] = (8, 8)
    np.savez(tmp_path / "net.npz", **weights(square))  # type: ignore[arg-type]  # numpy's stubs want its own option
    with pytest.raises(InvalidInputError, match="a LLaMA that fits both ways"):
        one(tmp_path / "net.npz", heads=2)
    assert one(tmp_path / "net.npz", heads=2, orientation="out-in").nnz
    np.savez(tmp_path / "told.npz", **weights(LLAMA))  # type: ignore[arg-type]
    assert one(tmp_path / "told.npz", heads=4) == one(tensors(tmp_path / "net.safetensors", weights(LLAMA)), heads=4)


@pytest.mark.parametrize("before", ["module.", "_orig_mod.", "state_dict.model.", "net.", "base_model.model.", "ema."])
def test_what_stands_before_all_names_is_left_out(tmp_path: Path, before: str) -> None:
    """Wrappers of torch, Lightning and others."""
    arrays = weights(RESNET)
    wrapped = {before + name: array for name, array in arrays.items()}
    expected = one(tensors(tmp_path / "net.safetensors", arrays))
    assert one(tensors(tmp_path / "wrapped.safetensors", wrapped)).digest == expected.digest


def test_averages_and_states_beside_the_weights_are_left_out(tmp_path: Path) -> None:
    """The weights themselves are read, whatever lies beside them."""
    arrays = weights(RESNET)
    beside = {f"model.{name}": array for name, array in arrays.items()}
    beside |= {f"ema_model.{name}": np.ones_like(array) for name, array in arrays.items()}
    beside |= {f"state_dict_ema.{name}": np.ones_like(array) for name, array in arrays.items()}
    beside |= {f"optimizer.state.{k}.exp_avg": np.ones_like(array) for k, array in enumerate(arrays.values())}
    expected = one(tensors(tmp_path / "net.safetensors", arrays))
    assert one(tensors(tmp_path / "beside.safetensors", beside)).digest == expected.digest


def test_two_networks_in_one_file_are_a_question(tmp_path: Path) -> None:
    """A student and its teacher are no one network."""
    both = {f"{who}.{name}": shape for who in ("student", "teacher") for name, shape in RESNET.items()}
    assert looked(tmp_path, both).question is not None
    both = {f"{who}{name}": shape for who in ("", "model.") for name, shape in RESNET.items()}
    assert looked(tmp_path, both).question is not None


@pytest.mark.parametrize("spelling", ["{}.weight_mask", "{}.parametrizations.weight.0.mask", "mask_dict.{}.weight"])
def test_masks_win_in_a_family_too(tmp_path: Path, spelling: str) -> None:
    """Pruned and parametrised layers beside plain ones."""
    arrays = weights(RESNET)
    stored: dict[str, Any] = {}
    for name, array in arrays.items():
        stem = name.removesuffix(".weight")
        if array.ndim < 2 or "conv" not in name:
            stored[name] = array
            continue
        original = "weight_orig" if "_mask" in spelling else "parametrizations.weight.original"
        stored[name if "dict" in spelling else f"{stem}.{original}"] = np.ones_like(array)
        stored[spelling.format(stem)] = (array != 0).astype(np.float32)
    path = tensors(tmp_path / "masked.safetensors", stored)
    assert one(path).digest == one(tensors(tmp_path / "net.safetensors", arrays)).digest
    assert inspect(path).question is None


def test_a_tied_output_layer(tmp_path: Path) -> None:
    """By the same weights in both places, or by the configuration where the file has one array; else two layers."""
    arrays = weights(LLAMA)
    apart = one(tensors(tmp_path / "apart.safetensors", arrays), heads=4)
    assert not apart.wiring.shared_with
    same = arrays | {"lm_head.weight": arrays["model.embed_tokens.weight"]}
    tied = one(tensors(tmp_path / "same.safetensors", same), heads=4)
    assert tied.wiring.shared_with == {"lm_head": "embed_tokens"}
    alone = {name: array for name, array in arrays.items() if name != "lm_head.weight"}
    config = {"num_attention_heads": 4, "tie_word_embeddings": True, "architectures": ["LlamaForCausalLM"]}
    assert one(tensors(tmp_path / "alone" / "net.safetensors", alone, config)) == tied
    untied = tensors(tmp_path / "untied" / "net.safetensors", same, config | {"tie_word_embeddings": False})
    assert not one(untied).wiring.shared_with
    masks = {f"masks.{name}": array != 0 for name, array in same.items() if array.ndim > 1}
    assert not one(tensors(tmp_path / "masks.safetensors", masks), heads=4).wiring.shared_with


def test_a_network_without_its_output_layer(tmp_path: Path) -> None:
    """The units of the last sum are the outputs: they are held by index, and it is said."""
    body = {name: shape for name, shape in VIT.items() if not name.startswith("head")}
    inspection = looked(tmp_path, body, heads=2)
    assert inspection.wiring is not None
    assert {space.name: space.labelled for space in inspection.wiring.spaces}["stream"]
    assert any("no output layer is in the file" in note for note in inspection.notes)


def test_layers_that_are_chosen_are_no_family(tmp_path: Path) -> None:
    """``--layers`` says a chain, and that is read."""
    path = tensors(tmp_path / "net.safetensors", weights(RESNET))
    assert [layer.name for layer in one(path, layers=["conv1", "layer1.0.conv1"])] == ["conv1", "layer1.0.conv1"]


@pytest.mark.parametrize("config", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"num_heads": true}'])
def test_a_configuration_that_is_none_says_nothing(tmp_path: Path, config: bytes) -> None:
    """It may belong to something else, so it is no error."""
    path = tensors(tmp_path / "net.safetensors", weights(VIT))
    path.with_name("config.json").write_bytes(config)
    assert "number of heads" in str(inspect(path).question)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"{family.name} of {family.writers}")
def test_the_table_of_families_is_consistent(family: Any) -> None:
    """Every place that is read is entered before, and every row that is tied names another."""
    rows = (*family.before, *family.rows, *family.after)
    entered: set[str] = set()
    held = {family.attention.v} if family.attention is not None and family.attention.within else set()
    for row in rows:
        assert all(place in entered | held for place in row.source.split("|") if place[0] != "#")
        entered |= set(row.places)
        assert not row.tied or row.tied in {name for other in rows for name in other.names}
