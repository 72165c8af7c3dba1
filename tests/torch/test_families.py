"""Checkpoints of real models read by their names and shapes: the wiring is the one that the trace of the model finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
import transformers
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torchvision.models.resnet import BasicBlock, Bottleneck

import topostrata as ts
from tests import wirings
from tests.torch import models
from tests.torch.libraries import IS_NEWEST
from tests.torch.models import Example, Masked, picture, tokens
from tests.torch.relabelling import relabelled_state, traced
from topostrata.errors import InvalidInputError
from topostrata.ingest.families.table import FAMILIES
from topostrata.ingest.formats.limits import DEFAULT
from topostrata.ingest.formats.reading import options_of, read
from topostrata.ingest.formats.run_directory import opened
from topostrata.ingest.inspection import inspect
from topostrata.ingest.over_time import decide
from topostrata.topology import Topology, Wiring

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")

ENDS = {"bos_token_id": 0, "eos_token_id": 0}


@dataclass
class Saved:
    """A model, the family that its files are of, and what has to be said where there is no config.json."""

    example: Example
    family: str
    said: dict[str, Any] = field(default_factory=dict)


class ResNet(nn.Module):
    """torchvision's, of its own blocks under its own names; its widths are fixed there, from 64 to 2048."""

    def __init__(self, block: type[BasicBlock | Bottleneck], counts: list[int], norm: Any, groups: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False), norm(4)
        below = 4
        for k, count in enumerate(counts):
            width, blocks = 4 * 2**k, []
            for place in range(count):
                stride = 2 if k and place == 0 else 1
                downsample = None
                if stride > 1 or below != width * block.expansion:
                    conv = nn.Conv2d(below, width * block.expansion, 1, stride, bias=False)
                    downsample = nn.Sequential(conv, norm(width * block.expansion))
                base = 64 if groups == 1 else 64 // groups
                blocks.append(block(below, width, stride, downsample, groups, base, norm_layer=norm))
                below = width * block.expansion
            self.add_module(f"layer{k + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(below, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        for name, stage in self.named_children():
            x = stage(x) if name.startswith("layer") else x
        return self.fc(x.mean((2, 3)))


def resnet(
    block: type[BasicBlock | Bottleneck], counts: list[int], norm: Any = nn.BatchNorm2d, groups: int = 1
) -> Saved:
    kind = "basic blocks" if block is BasicBlock else "bottlenecks"
    return Saved(Example(ResNet(block, counts, norm, groups), (picture(32),)), f"ResNet of {kind}")


class CifarBlock(nn.Module):
    """As in pytorch-cifar: the shortcut is called so, and the last layer ``linear``."""

    def __init__(self, below: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(below, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride > 1 or below != width:
            self.shortcut = nn.Sequential(nn.Conv2d(below, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Three stages; 2 x 2 positions are left for the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(CifarBlock(4, 4, 1), CifarBlock(4, 4, 1))
        self.layer2 = nn.Sequential(CifarBlock(4, 8, 2), CifarBlock(8, 8, 1))
        self.layer3 = nn.Sequential(CifarBlock(8, 16, 2))
        self.linear = nn.Linear(16 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
        return self.linear(nn.functional.avg_pool2d(x, 2).flatten(1))


def cifar_resnet() -> Saved:
    return Saved(Example(CifarResNet(), (picture(16),)), "ResNet of basic blocks")


class WideBlock(nn.Module):
    """As in WideResNet-pytorch: norms first, the shortcut reads what is normed."""

    def __init__(self, below: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(below), nn.Conv2d(below, width, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.equal = below == width
        self.convShortcut = None if self.equal else nn.Conv2d(below, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        normed = torch.relu(self.bn1(x))
        out = self.conv2(torch.relu(self.bn2(self.conv1(normed))))
        return out + (x if self.convShortcut is None else self.convShortcut(normed))


class WideBlocks(nn.Module):
    """The blocks of a stage."""

    def __init__(self, below: int, width: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(WideBlock(below, width, stride), WideBlock(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(nn.Module):
    """Two stages."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(12), nn.Linear(12, 10)
        self.block1, self.block2 = WideBlocks(4, 8, 1), WideBlocks(8, 12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.bn1(self.block2(self.block1(self.conv1(x))))).mean((2, 3)))


def wide_resnet() -> Saved:
    return Saved(Example(WideResNet(), (picture(16),)), "Wide ResNet")


def gpt2(kind: type[nn.Module] = transformers.GPT2LMHeadModel, heads: int = 4) -> Saved:
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=48, n_layer=2, n_head=heads, pad_token_id=0, **ENDS
    )
    return Saved(Example(kind(config), (tokens(),)), "GPT-2", {"heads": heads})


def neox() -> Saved:
    config = transformers.GPTNeoXConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        max_position_embeddings=16, **ENDS,
    )  # fmt: skip
    return Saved(Example(transformers.GPTNeoXForCausalLM(config), (tokens(),)), "GPT-NeoX", {"heads": 3})


def llama(kv: int, *, tied: bool, kind: str = "Llama", family: str = "LLaMA", **more: Any) -> Saved:
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=50, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=kv, tie_word_embeddings=tied, **ENDS, **more,
    )  # fmt: skip
    return Saved(Example(getattr(transformers, f"{kind}ForCausalLM")(config), (tokens(),)), family, {"heads": 6})


def opt() -> Saved:
    config = transformers.OPTConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, ffn_dim=40,
        max_position_embeddings=16, word_embed_proj_dim=24, pad_token_id=1, **ENDS,
    )  # fmt: skip
    return Saved(Example(transformers.OPTForCausalLM(config), (tokens(),)), "OPT", {"heads": 3})


def bert(kind: str) -> Saved:
    config_of = transformers.RobertaConfig if kind.startswith("Roberta") else transformers.BertConfig
    config = config_of(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        max_position_embeddings=16, pad_token_id=0,
    )  # fmt: skip
    model = getattr(transformers, kind)(config)
    return Saved(Example(model, (), {"input_ids": tokens()}), "BERT", {"heads": 3})


def distilbert(kind: str) -> Saved:
    config = transformers.DistilBertConfig(
        vocab_size=50, dim=24, n_layers=2, n_heads=3, hidden_dim=40, max_position_embeddings=16
    )
    model = getattr(transformers, f"DistilBert{kind}")(config)
    return Saved(Example(model, (), {"input_ids": tokens()}), "DistilBERT", {"heads": 3})


def vit() -> Saved:
    model = torchvision.models.VisionTransformer(16, 4, 2, 3, 24, 96, num_classes=10)
    return Saved(Example(model, (picture(16),)), "Vision Transformer", {"heads": 3})


def vit_of_transformers(kind: str = "ViT") -> Saved:
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, image_size=16, patch_size=4,
        num_labels=10,
    )  # fmt: skip
    model = getattr(transformers, f"{kind}ForImageClassification")(config)
    return Saved(Example(model, (picture(16),)), "Vision Transformer", {"heads": 3})


class TimmBlock(nn.Module):
    """The names and shapes of timm: queries, keys and values below each other in ``qkv``."""

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dims), nn.LayerNorm(dims)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dims, 3 * dims), "proj": nn.Linear(dims, dims)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dims, 4 * dims), "fc2": nn.Linear(4 * dims, dims)})

    def forward(self, x: Tensor) -> Tensor:
        count, length, dims = x.shape
        joint = self.attn["qkv"](self.norm1(x)).reshape(count, length, 3, self.heads, dims // self.heads)
        q, k, v = joint.permute(2, 0, 3, 1, 4).unbind(0)
        seen = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(count, length, dims)
        x = x + self.attn["proj"](seen)
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


class TimmVit(nn.Module):
    """With a class token, registers, and positions."""

    def __init__(self, dims: int = 24, heads: int = 3) -> None:
        super().__init__()
        self.cls_token, self.reg_token = (nn.Parameter(torch.randn(1, n, dims)) for n in (1, 4))
        self.pos_embed = nn.Parameter(torch.randn(1, 16, dims))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dims, 4, 4)})
        self.blocks = nn.Sequential(*(TimmBlock(dims, heads) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(dims), nn.Linear(dims, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed["proj"](image).flatten(2).transpose(1, 2) + self.pos_embed
        x = torch.cat([token.expand(len(x), -1, -1) for token in (self.cls_token, self.reg_token)] + [x], 1)
        return self.head(self.norm(self.blocks(x))[:, 0])


def vit_of_timm() -> Saved:
    return Saved(Example(TimmVit(), (picture(16),)), "Vision Transformer", {"heads": 3})


MODELS: dict[str, Callable[[], Saved]] = {
    "resnet18": partial(resnet, BasicBlock, [2, 2, 2, 2]),
    "resnet50": partial(resnet, Bottleneck, [1, 2, 1]),
    "resnext": partial(resnet, Bottleneck, [1, 1, 1], groups=2),
    "cifar_resnet": cifar_resnet,
    "wide_resnet": wide_resnet,
    "gpt2": gpt2,
    "gpt2 of one head": partial(gpt2, heads=1),
    "gpt2 classifier": partial(gpt2, transformers.GPT2ForSequenceClassification),
    "neox": neox,
    "llama": partial(llama, 2, tied=True),
    "llama untied": partial(llama, 2, tied=False),
    "llama of single keys": partial(llama, 6, tied=True),
    "mistral": partial(llama, 3, tied=False, kind="Mistral", head_dim=8),
    "qwen2": partial(llama, 2, tied=True, kind="Qwen2"),
    "qwen3": partial(llama, 2, tied=True, kind="Qwen3", head_dim=8),
    "phi3": partial(llama, 6, tied=False, kind="Phi3", family="Phi-3", pad_token_id=0),
    "phi3 tied": partial(llama, 6, tied=True, kind="Phi3", family="Phi-3", pad_token_id=0),
    "gemma": partial(llama, 2, tied=True, kind="Gemma", head_dim=10),
    "opt": opt,
    "bert": partial(bert, "BertForSequenceClassification"),
    "bert of tokens": partial(bert, "BertForTokenClassification"),
    "bert pretraining": partial(bert, "BertForPreTraining"),
    "bert masked": partial(bert, "BertForMaskedLM"),
    "roberta": partial(bert, "RobertaForSequenceClassification"),
    "roberta masked": partial(bert, "RobertaForMaskedLM"),
    "distilbert": partial(distilbert, "ForSequenceClassification"),
    "distilbert masked": partial(distilbert, "ForMaskedLM"),
    "vit": vit,
    "vit of transformers": vit_of_transformers,
    "deit of transformers": partial(vit_of_transformers, "DeiT"),
    "vit of timm": vit_of_timm,
}
# What the trace tells apart further, and a family holds as one space of fixed units.
RESTRICTED: dict[str, Callable[[], Saved]] = {
    "llama of one key": partial(llama, 1, tied=False),
    "bert of answers": partial(bert, "BertForQuestionAnswering"),
    "bert without a head": partial(bert, "BertModel"),
}
# Queries and keys look alike to a wiring, and stand in the order of execution.
KEYS_FIRST = {"vit of transformers", "deit of transformers"}


def made_sparse(make: Callable[[], Saved]) -> Saved:
    """About a third of the weights are not 0."""
    torch.manual_seed(0)
    saved = make()
    with torch.no_grad():
        for parameter in saved.example.model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) * (torch.rand_like(parameter) < 0.3))
    return saved


def traced_topology(saved: Saved) -> Topology:
    """The connections of the model in the wiring of its trace."""
    wiring = ts.trace(saved.example.model, saved.example.args or saved.example.named)
    parameters = saved.example.model.state_dict()
    names = {layer.part.parameter for layer in wiring if layer.part is not None}
    return wiring.place({name: parameters[name] != 0 for name in names})


def one(path: Path, **options: Any) -> Topology:
    (frame,) = read(path, **options)
    return frame.topology


def checkpoint(path: Path, state: dict[str, Any]) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_the_wiring_by_names_is_the_traced_one(name: str, tmp_path: Path) -> None:
    """The same digest from a .pth, a .safetensors and what save_pretrained writes; the family and its evidence are said."""
    saved = made_sparse(MODELS[name])
    expected = traced_topology(saved)
    state = saved.example.model.state_dict()
    path = checkpoint(tmp_path / "net.pth", state)
    inspection = inspect(path, **saved.said)
    if name in KEYS_FIRST and not IS_NEWEST:
        assert ts.nnstd(one(path, **saved.said), expected).nnstd == 0
        pytest.skip("before transformers 5 a ViT computes its keys before its queries: traced, its digest is another")
    assert inspection.question is None
    assert saved.family in inspection.evidence[0]
    assert inspection.wiring is not None
    assert inspection.wiring.counterparts(expected.wiring)
    assert one(path, **saved.said).digest == expected.digest
    assert one(path, wiring=Wiring.from_toml(inspection.to_toml())).digest == expected.digest
    if hasattr(saved.example.model, "save_pretrained"):
        saved.example.model.save_pretrained(tmp_path / "pretrained")
        assert one(tmp_path / "pretrained" / "model.safetensors").digest == expected.digest
        assert one(tmp_path / "pretrained").digest == expected.digest
        config = json.loads((tmp_path / "pretrained" / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert one(checkpoint(tmp_path / "pytorch_model.bin", state)).digest == expected.digest
    else:
        safetensors.torch.save_file(state, tmp_path / "net.safetensors")
        assert one(tmp_path / "net.safetensors", **saved.said).digest == expected.digest


@pytest.mark.parametrize("name", MODELS)
def test_a_network_and_its_relabelled_copy_are_one_through_files(name: str, tmp_path: Path) -> None:
    """A random symmetry of the trace, written to a checkpoint: canonical distance 0; other connections are far away."""
    saved = made_sparse(MODELS[name])
    seen, reading = traced(saved.example)
    permutations = wirings.random_permutations(np.random.default_rng(1), reading.wiring)
    state = saved.example.model.state_dict()
    moved = relabelled_state(saved.example, seen, reading, permutations)
    places = {state[name].data_ptr(): name for name in moved if name in state}  # tied parameters have several names
    copy = {name: moved[places[value.data_ptr()]] for name, value in state.items() if value.data_ptr() in places}
    first = one(checkpoint(tmp_path / "a.pth", state), **saved.said)
    second = one(checkpoint(tmp_path / "b.pth", state | copy), **saved.said)
    assert first.digest != second.digest
    assert ts.nnstd(first, second).nnstd == 0
    third = one(checkpoint(tmp_path / "c.pth", made_other(state)), **saved.said)
    assert ts.nnstd(first, third).nnstd > 0.3


def made_other(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of each array shuffled; arrays that are one stay one."""
    shuffled: dict[int, Tensor] = {}
    for value in state.values():
        if value.dim() > 1:
            order = torch.randperm(value.numel())
            shuffled.setdefault(value.data_ptr(), value.flatten()[order].reshape(value.shape))
    return {name: shuffled.get(value.data_ptr(), value) for name, value in state.items()}


@pytest.mark.parametrize("name", RESTRICTED)
def test_what_a_family_does_not_tell_apart_is_held_by_index(name: str, tmp_path: Path) -> None:
    """Never more symmetries than the traced wiring has: as many connections, and no free axis more."""
    saved = made_sparse(RESTRICTED[name])
    expected = traced_topology(saved)
    topology = one(checkpoint(tmp_path / "net.pth", saved.example.model.state_dict()), **saved.said)
    assert topology.nnz == expected.nnz
    free = sorted(axis.size for axis in topology.wiring.axes if not axis.fixed)
    theirs = sorted(axis.size for axis in expected.wiring.axes if not axis.fixed)
    for size in free:
        theirs.remove(size)
    assert len(theirs) <= 1


def test_every_family_has_a_model() -> None:
    """A row of the table without a real model would be a guess."""
    assert {family.name for family in FAMILIES} == {make().family for make in MODELS.values()}


@pytest.mark.parametrize("name", ["resnet18", "vit", "gpt2", "llama"])
def test_masks_beside_weights_are_the_topology(name: str, tmp_path: Path) -> None:
    """Pruned by torch, and by a parametrization: the masks are read, in whatever family."""
    saved = MODELS[name]()
    model = saved.example.model
    layers = [
        module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | transformers.pytorch_utils.Conv1D) and "head" not in path
    ]
    for k, module in enumerate(layers):
        if k % 2:
            prune.random_unstructured(module, "weight", 0.5)
        else:
            parametrize.register_parametrization(module, "weight", Masked(module.weight.shape))
    whole = {path: module.weight.detach() for path, module in model.named_modules() if module in set(layers)}
    masked = one(checkpoint(tmp_path / "masked.pth", model.state_dict()), **saved.said)
    for module in layers:
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
        else:
            prune.remove(module, "weight")
    plain = one(checkpoint(tmp_path / "plain.pth", model.state_dict()), **saved.said)
    assert masked.digest == plain.digest
    assert len(whole) == len(layers)


class Shell(nn.Module):
    """A training module around a network, as Lightning's users write it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


def wrapped_states(model: nn.Module) -> dict[str, dict[str, Any]]:
    """The checkpoint of one network as loops write it."""
    state = model.state_dict()
    average = torch.optim.swa_utils.AveragedModel(model)
    optimiser = torch.optim.Adam(model.parameters())
    return {
        "DDP": {f"module.{name}": value for name, value in state.items()},
        "compiled": torch.compile(model, backend="eager").state_dict(),
        "Lightning": {"state_dict": Shell(model).state_dict(), "epoch": 3, "hyper_parameters": {"lr": 0.1}},
        "a loop": {"model": state, "optimizer": optimiser.state_dict(), "epoch": 3},
        "averaged": average.state_dict(),
        "beside its average": {"model": state, "model_ema": {name: torch.ones_like(v) for name, v in state.items()}},
    }


def test_wrappers_are_looked_through(tmp_path: Path) -> None:
    """The same network whoever saved it."""
    saved = made_sparse(cifar_resnet)
    expected = traced_topology(saved)
    for wrapper, state in wrapped_states(saved.example.model).items():
        assert one(checkpoint(tmp_path / f"{wrapper}.pt", state)).digest == expected.digest, wrapper


def test_the_names_are_those_of_torchvision(tmp_path: Path) -> None:
    """ResNet-18, VGG-11 and ViT as torchvision builds them, without their numbers: names and shapes are enough."""
    models = torchvision.models
    with torch.device("meta"):
        built = {"resnet18": models.resnet18(), "vgg11": models.vgg11_bn(), "vit": models.vit_b_16()}
    for name, model in built.items():
        state = {
            key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in model.state_dict().items()
        }
        with opened(checkpoint(tmp_path / f"{name}.pth", state), DEFAULT) as file:
            reading = decide(file, options_of((), heads=12))
        assert reading.arrays == {key for key, value in state.items() if value.dim() in {2, 4}}


def test_heads_are_read_from_the_arguments_in_a_checkpoint(tmp_path: Path) -> None:
    """nanoGPT: compiled, its matrices out-in, and what the model was made with beside it."""
    saved = made_sparse(gpt2)
    state = {
        f"_orig_mod.{name}": value.T.contiguous() if ".c_" in name and value.dim() == 2 else value
        for name, value in saved.example.model.state_dict().items()
    }
    arguments = {"n_layer": 2, "n_head": 4, "n_embd": 48, "bias": True}
    path = checkpoint(tmp_path / "ckpt.pt", {"model": state, "model_args": arguments, "iter_num": 5})
    assert one(path).digest == traced_topology(saved).digest
    assert "heads: 4, as the checkpoint says (model_args.n_head)" in inspect(path).evidence


def test_group_norms_are_asked_about_and_read_with_a_wiring(tmp_path: Path) -> None:
    """A ResNet with group norms has fewer symmetries than one with batch norms."""
    saved = made_sparse(partial(resnet, BasicBlock, [1, 2], norm=partial(nn.GroupNorm, 2)))
    path = checkpoint(tmp_path / "net.pth", saved.example.model.state_dict())
    with pytest.raises(InvalidInputError, match="without running statistics: if it is a group norm"):
        read(path)
    expected = traced_topology(saved)
    assert one(path, wiring=expected.wiring).digest == expected.digest


def falcon() -> Saved:
    config = transformers.FalconConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, **ENDS
    )
    return Saved(Example(transformers.FalconForCausalLM(config), (tokens(),)), "")


def bloom() -> Saved:
    config = transformers.BloomConfig(vocab_size=50, hidden_size=24, n_layer=2, n_head=3, **ENDS)
    return Saved(Example(transformers.BloomForCausalLM(config), (tokens(),)), "")


@pytest.mark.parametrize(
    "network",
    [lambda: Saved(models.mobilenet_v2(), ""), lambda: Saved(models.densenet(), ""), bloom, falcon],
    ids=["mobilenet", "densenet", "bloom", "falcon"],
)
def test_networks_that_a_file_does_not_tell_are_asked_for_their_trace(
    network: Callable[[], Saved], tmp_path: Path
) -> None:
    """Strides and which parts of a matrix are queries are no numbers: the error gives the line, and the file reads by it."""
    saved = made_sparse(network)
    path = checkpoint(tmp_path / "net.pth", saved.example.model.state_dict())
    with pytest.raises(InvalidInputError, match="which layer feeds which is not in the file") as caught:
        one(path)
    assert "Path('net.toml').write_text(ts.trace(model, example).to_toml())" in (caught.value.hint or "")
    wiring = Wiring.from_toml(traced_topology(saved).wiring.to_toml())
    assert one(path, wiring=wiring).digest == traced_topology(saved).digest
