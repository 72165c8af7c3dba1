"""The families of networks that are known by the names and shapes of their parameters.

To add one: a ``Family`` here, a real model of it in tests/torch/test_families.py, ``python docs/make_formats.py``.
Names are those that the libraries give their parameters; the wiring that follows is compared with the traced one.
"""

from __future__ import annotations

from topostrata.ingest.families.structure import Attention, Family, Row


def _resnet(name: str, writers: str, block: str, shortcut: str, inner: tuple[Row, ...]) -> Family:
    return Family(
        name,
        writers,
        "a stream for each width, which blocks read and add to; shortcuts with weights begin a new stream; groups "
        "(ResNeXt) follow from the shapes; batch norms are left out",
        block,
        (Row("conv1", "#image", "stream", "kernel"),),
        (*inner, Row(shortcut, "stream", "stream", "kernel", optional=True, opens=True)),
        (Row("fc|linear", "stream", "#classes", optional=True, picture=True),),
        "bn bn1 bn2 bn3 downsample shortcut",
        batch_norm=True,
    )


_BASIC = (Row("conv1", "stream", ".inner", "kernel"), Row("conv2", ".inner", "stream", "kernel"))
_BOTTLENECK = (
    Row("conv1", "stream", ".inner1", "kernel"),
    Row("conv2", ".inner1", ".inner2", "kernel", grouped=True),
    Row("conv3", ".inner2", "stream", "kernel"),
)
_SHORTCUT = "downsample.0|shortcut.0"

_HEADS = "q, k and v have the axes heads and places; rows of `in_proj`, `qkv` and `c_attn` are q, k, v side by side"
_ROTARY = "the places of q and k are fixed, since positions turn them (rotary)"

FAMILIES: tuple[Family, ...] = (
    _resnet("ResNet of basic blocks", "torchvision, timm, pytorch-cifar", "layer*.*.", _SHORTCUT, _BASIC),
    _resnet("ResNet of bottlenecks", "torchvision, timm, pytorch-cifar", "layer*.*.", _SHORTCUT, _BOTTLENECK),
    _resnet("Wide ResNet", "WideResNet-pytorch", "block*.layer.*.", "convShortcut", _BASIC),
    Family(
        "GPT-2",
        "transformers, nanoGPT",
        f"one stream; {_HEADS}; stored in-out (Conv1D of transformers) or out-in (nanoGPT), which the shapes tell; "
        "position embeddings are layers",
        "~h.*.",
        (
            Row("~wte", "#tokens", "stream", "embedding"),
            Row("~wpe", "#positions", "stream", "embedding"),
        ),
        (
            Row("attn.c_attn", "stream", ".q .k .v"),
            Row("attn.c_proj", ".v", "stream"),
            Row("mlp.c_fc", "stream", ".mlp"),
            Row("mlp.c_proj", ".mlp", "stream"),
        ),
        (
            Row("lm_head", "stream", "#logits", "head", optional=True, tied="~wte"),
            Row("score", "stream", "#classes", "head", optional=True),
        ),
        "ln_1 ln_2 ln_f",
        ("transformer.", ""),
        Attention(),
        stored=("in-out", "out-in"),
    ),
    Family(
        "GPT-NeoX",
        "transformers, also Pythia",
        "one stream; q, k and v lie side by side within each head: heads are interchangeable, places in them are fixed",
        "~layers.*.",
        (Row("~embed_in", "#tokens", "stream", "embedding"),),
        (
            Row("attention.query_key_value", "stream", ".qkv"),
            Row("attention.dense", ".values", "stream"),
            Row("mlp.dense_h_to_4h", "stream", ".mlp"),
            Row("mlp.dense_4h_to_h", ".mlp", "stream"),
        ),
        (Row("embed_out|lm_head", "stream", "#logits", optional=True, tied="~embed_in"),),
        "input_layernorm post_attention_layernorm final_layer_norm",
        ("gpt_neox.", ""),
        Attention(".qkv", ".qkv", ".values", rotary=True, within=True),
    ),
    Family(
        "LLaMA",
        "transformers, also Mistral, Qwen 2 and 3, Gemma",
        f"one stream; gate and up enter one space; {_ROTARY}; grouped queries follow from the widths of k",
        "layers.*.",
        (Row("embed_tokens", "#tokens", "stream", "embedding"),),
        (
            Row("self_attn.q_proj", "stream", ".q"),
            Row("self_attn.k_proj", "stream", ".k"),
            Row("self_attn.v_proj", "stream", ".v"),
            Row("self_attn.o_proj", ".v", "stream"),
            Row("mlp.gate_proj", "stream", ".mlp"),
            Row("mlp.up_proj", "stream", ".mlp"),
            Row("mlp.down_proj", ".mlp", "stream"),
        ),
        (
            Row("lm_head", "stream", "#logits", optional=True, tied="embed_tokens"),
            Row("score", "stream", "#classes", optional=True),
        ),
        "input_layernorm post_attention_layernorm pre_feedforward_layernorm post_feedforward_layernorm norm q_norm "
        "k_norm",
        attention=Attention(rotary=True),
    ),
    Family(
        "Phi-3",
        "transformers, also Phi-4",
        "as LLaMA; rows of `qkv_proj` are q, k, v side by side, rows of `gate_up_proj` gate and up; with as many keys "
        "as queries",
        "layers.*.",
        (Row("embed_tokens", "#tokens", "stream", "embedding"),),
        (
            Row("self_attn.qkv_proj", "stream", ".q .k .v"),
            Row("self_attn.o_proj", ".v", "stream"),
            Row("mlp.gate_up_proj", "stream", ".mlp .mlp"),
            Row("mlp.down_proj", ".mlp", "stream"),
        ),
        (
            Row("lm_head", "stream", "#logits", optional=True, tied="embed_tokens"),
            Row("score", "stream", "#classes", optional=True),
        ),
        "input_layernorm post_attention_layernorm norm",
        attention=Attention(rotary=True),
    ),
    Family(
        "OPT",
        "transformers",
        "one stream; q, k and v have the axes heads and places; position embeddings are layers",
        "decoder.layers.*.",
        (
            Row("decoder.embed_tokens", "#tokens", "stream", "embedding"),
            Row("decoder.embed_positions", "#positions", "stream", "embedding"),
        ),
        (
            Row("self_attn.q_proj", "stream", ".q"),
            Row("self_attn.k_proj", "stream", ".k"),
            Row("self_attn.v_proj", "stream", ".v"),
            Row("self_attn.out_proj", ".v", "stream"),
            Row("fc1", "stream", ".mlp"),
            Row("fc2", ".mlp", "stream"),
        ),
        (
            Row("lm_head", "stream", "#logits", optional=True, tied="decoder.embed_tokens"),
            Row("score", "stream", "#classes", optional=True),
        ),
        "self_attn_layer_norm final_layer_norm",
        attention=Attention(),
    ),
    Family(
        "BERT",
        "transformers, also RoBERTa",
        "one stream, entered by words, positions and types; q, k and v have the axes heads and places; pooler and "
        "output layers as they are in the file",
        "~encoder.layer.*.",
        (
            Row("~embeddings.word_embeddings", "#tokens", "stream", "embedding"),
            Row("~embeddings.position_embeddings", "#positions", "stream", "embedding"),
            Row("~embeddings.token_type_embeddings", "#types", "stream", "embedding"),
        ),
        (
            Row("attention.self.query", "stream", ".q"),
            Row("attention.self.key", "stream", ".k"),
            Row("attention.self.value", "stream", ".v"),
            Row("attention.output.dense", ".v", "stream"),
            Row("intermediate.dense", "stream", ".mlp"),
            Row("output.dense", ".mlp", "stream"),
        ),
        (
            Row("~pooler.dense", "stream", "pooled", optional=True),
            Row("classifier", "pooled|stream", "#classes", optional=True),
            Row("classifier.dense", "stream", "hidden", optional=True),
            Row("classifier.out_proj", "hidden", "#classes", optional=True),
            Row("cls.seq_relationship", "pooled", "#relationship", optional=True),
            Row("cls.predictions.transform.dense|lm_head.dense", "stream", "transformed", optional=True),
            Row(
                "cls.predictions.decoder|lm_head.decoder",
                "transformed",
                "#logits",
                optional=True,
                tied="~embeddings.word_embeddings",
            ),
            Row("qa_outputs", "stream", "#answers", optional=True),
        ),
        "LayerNorm layer_norm cls.predictions lm_head",
        ("bert.", "roberta.", ""),
        Attention(),
    ),
    Family(
        "DistilBERT",
        "transformers",
        "one stream; q, k and v have the axes heads and places",
        "~transformer.layer.*.",
        (
            Row("~embeddings.word_embeddings", "#tokens", "stream", "embedding"),
            Row("~embeddings.position_embeddings", "#positions", "stream", "embedding"),
        ),
        (
            Row("attention.q_lin", "stream", ".q"),
            Row("attention.k_lin", "stream", ".k"),
            Row("attention.v_lin", "stream", ".v"),
            Row("attention.out_lin", ".v", "stream"),
            Row("ffn.lin1", "stream", ".mlp"),
            Row("ffn.lin2", ".mlp", "stream"),
        ),
        (
            Row("pre_classifier", "stream", "hidden", optional=True),
            Row("classifier", "hidden|stream", "#classes", optional=True),
            Row("vocab_transform", "stream", "transformed", optional=True),
            Row(
                "vocab_projector", "transformed", "#logits", optional=True, tied="~embeddings.word_embeddings"
            ),
            Row("qa_outputs", "stream", "#answers", optional=True),
        ),
        "LayerNorm sa_layer_norm output_layer_norm vocab_layer_norm vocab_projector",
        ("distilbert.", ""),
        Attention(),
    ),
    Family(
        "Vision Transformer",
        "torchvision",
        f"one stream; {_HEADS}; tokens and position embeddings join no units",
        "encoder.layers.encoder_layer_*.",
        (Row("conv_proj", "#image", "stream", "kernel"),),
        (
            Row("self_attention.in_proj", "stream", ".q .k .v"),
            Row("self_attention.out_proj", ".v", "stream"),
            Row("mlp.0|mlp.linear_1", "stream", ".mlp"),
            Row("mlp.3|mlp.linear_2", ".mlp", "stream"),
        ),
        (
            Row("heads.pre_logits", "stream", "hidden", optional=True),
            Row("heads.head", "hidden|stream", "#classes", optional=True),
        ),
        "ln_1 ln_2 ln",
        attention=Attention(),
    ),
    Family(
        "Vision Transformer",
        "timm, DeiT, DINO",
        f"one stream; {_HEADS}; tokens, registers and position embeddings join no units",
        "blocks.*.",
        (Row("patch_embed.proj", "#image", "stream", "kernel"),),
        (
            Row("attn.qkv", "stream", ".q .k .v"),
            Row("attn.proj", ".v", "stream"),
            Row("mlp.fc1", "stream", ".mlp"),
            Row("mlp.fc2", ".mlp", "stream"),
        ),
        (
            Row("head", "stream", "#classes", optional=True),
            Row("head_dist", "stream", "#distilled", optional=True),
        ),
        "norm1 norm2 norm norm_pre fc_norm ls1 ls2 gamma_1 gamma_2 reg_token register_tokens",
        attention=Attention(positions="pos_embed"),
    ),
    Family(
        "Vision Transformer",
        "transformers, also DeiT",
        "one stream; q, k and v have the axes heads and places; tokens and position embeddings join no units",
        "~encoder.layer.*.|~layers.*.",
        (Row("~embeddings.patch_embeddings.projection", "#image", "stream", "kernel"),),
        (
            Row("attention.attention.query|attention.q_proj", "stream", ".q"),
            Row("attention.attention.key|attention.k_proj", "stream", ".k"),
            Row("attention.attention.value|attention.v_proj", "stream", ".v"),
            Row("attention.output.dense|attention.o_proj", ".v", "stream"),
            Row("intermediate.dense|mlp.fc1", "stream", ".mlp"),
            Row("output.dense|mlp.fc2", ".mlp", "stream"),
        ),
        (
            Row("~pooler.dense", "stream", "pooled", optional=True),
            Row("classifier|cls_classifier", "stream", "#classes", optional=True),
            Row("distillation_classifier", "stream", "#distilled", optional=True),
        ),
        "layernorm_before layernorm_after layernorm distillation_token",
        ("vit.", "deit.", ""),
        Attention(),
    ),
)  # fmt: skip
