"""Backbones of KerasHub that are made of others, and how any of them is made.

See `hub_backbones` for the arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.benchmarks.parity.hub_backbones import (
    BACKBONES,
    CLIP_TEXT,
    CLIP_VISION,
    HGNET,
    LENGTH,
    MIT,
    RESNET,
    SHAPES,
    SMALL,
    STAGES,
    VIT,
)


def _blip2(models: Any) -> Any:
    from keras_hub.src.models.blip2 import blip2_custom_opt, blip2_qformer, blip2_vision_encoder

    size = {"num_layers": 1, "num_heads": 4, "hidden_dim": 40, "intermediate_dim": 80}
    vision = blip2_vision_encoder.BLIP2VisionEncoder(
        **size,
        image_size=32,
        patch_size=8,
        use_patch_bias=True,
        use_class_token=True,
        use_mha_bias=True,
        use_mlp_bias=True,
        dropout_rate=0.0,
        layer_norm_epsilon=1e-6,
        initializer_range=0.02,
    )
    former = blip2_qformer.BLIP2QFormer(
        **size, num_query_tokens=2, vision_dim=40, cross_attention_frequency=1, dropout=0.0,
        layer_norm_epsilon=1e-6,
    )  # fmt: skip
    language = blip2_custom_opt.BLIP2CustomOPT(
        **size, vocabulary_size=50, num_query_tokens=2, qformer_hidden_dim=40, max_sequence_length=40,
        dropout=0.0, language_projection=None,
    )  # fmt: skip
    return models.BLIP2Backbone(vision_encoder=vision, qformer=former, language_model=language)


def _two_towers(models: Any, name: str, folder: str) -> Any:
    import importlib

    room = f"keras_hub.src.models.{folder}.{folder}"
    vision = getattr(importlib.import_module(f"{room}_vision_encoder"), f"{name}VisionEncoder")
    text = getattr(importlib.import_module(f"{room}_text_encoder"), f"{name}TextEncoder")
    given = {"projection_dim": 40} if name != "SigLIP" else {}
    return getattr(models, f"{name}Backbone")(
        vision_encoder=vision(**CLIP_VISION, name="vision_encoder"),
        text_encoder=text(**CLIP_TEXT, name="text_encoder"),
        **given,
    )


def _resnet(models: Any, **given: Any) -> Any:
    return models.ResNetBackbone(**{**RESNET, **STAGES, **given})


def _dino(models: Any) -> Any:
    given = {**BACKBONES["DINOV2"], "patch_size": 14, "image_shape": (112, 112, 3), "num_layers": 4}
    given["position_embedding_shape"] = (112, 112, 3)
    encoder = models.DINOV2Backbone(**given, apply_layernorm=True, name="image_encoder")
    return models.DepthAnythingBackbone(
        image_encoder=encoder,
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_dims=[10, 20, 30, 40],
        fusion_hidden_dim=40,
        head_hidden_dim=20,
        head_in_index=-1,
        feature_keys=["stage1", "stage2", "stage3", "stage4"],
    )


def _dfine(models: Any) -> Any:
    given = {**HGNET, "out_features": ["stage1", "stage2"], **SMALL}
    return models.DFineBackbone(
        backbone=models.HGNetV2Backbone(**given),
        decoder_in_channels=[40, 40],
        encoder_hidden_dim=40,
        num_denoising=0,
        num_labels=4,
        hidden_dim=40,
        learn_initial_query=False,
        num_queries=10,
        anchor_image_size=(32, 32),
        feat_strides=[4, 8],
        num_feature_levels=2,
        encoder_in_channels=[40, 80],
        encode_proj_layers=[1],
        num_attention_heads=2,
        encoder_ffn_dim=80,
        num_encoder_layers=1,
        hidden_expansion=0.5,
        depth_multiplier=0.5,
        eval_idx=-1,
        num_decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=80,
        decoder_n_points=[2, 2],
        lqe_hidden_dim=20,
        num_lqe_layers=2,
        out_features=["stage1", "stage2"],
        seed=0,
        **SMALL,
    )


def _parseq(models: Any) -> Any:
    given = {**VIT, "mlp_dim": 80, "use_class_token": False, "name": "image_encoder"}
    return models.PARSeqBackbone(
        image_encoder=models.ViTBackbone(**given),
        vocabulary_size=50,
        max_label_length=LENGTH,
        decoder_hidden_dim=40,
        num_decoder_layers=1,
        num_decoder_heads=2,
        decoder_mlp_dim=80,
    )


def _sam(models: Any) -> Any:
    from keras_hub import layers

    prompts = layers.SAMPromptEncoder(
        hidden_size=20, image_embedding_size=(8, 8), input_image_size=(32, 32), mask_in_channels=20
    )
    decoder = layers.SAMMaskDecoder(
        num_layers=1,
        hidden_size=20,
        intermediate_dim=40,
        num_heads=4,
        embedding_dim=20,
        num_multimask_outputs=3,
        iou_head_depth=2,
        iou_head_hidden_dim=20,
    )
    return models.SAMBackbone(
        image_encoder=models.ViTDetBackbone(**BACKBONES["ViTDet"]),
        prompt_encoder=prompts,
        mask_decoder=decoder,
    )


def _diffusion(models: Any) -> Any:
    from keras_hub.src.models.clip.clip_text_encoder import CLIPTextEncoder
    from keras_hub.src.models.vae.vae_backbone import VAEBackbone

    vae = VAEBackbone([32, 32], [1, 1], [32, 32], [1, 1], sampler_method="mode", name="vae")
    clip = {**CLIP_TEXT, "intermediate_activation": "quick_gelu", "intermediate_output_index": -2}
    return models.StableDiffusion3Backbone(
        mmdit_patch_size=2,
        mmdit_hidden_dim=40,
        mmdit_num_layers=2,
        mmdit_num_heads=2,
        mmdit_position_size=16,
        mmdit_qk_norm=None,
        mmdit_dual_attention_indices=None,
        vae=vae,
        clip_l=CLIPTextEncoder(**clip, name="clip_l"),
        clip_g=CLIPTextEncoder(**clip, name="clip_g"),
        image_shape=(32, 32, 3),
    )


COMPOSED: Mapping[str, Callable[[Any], Any]] = {
    "BASNet": lambda models: models.BASNetBackbone(
        image_encoder=_resnet(models), num_classes=1, image_shape=(64, 64, 3)
    ),
    "BLIP2": _blip2,
    "CLIP": lambda models: _two_towers(models, "CLIP", "clip"),
    "DFine": _dfine,
    "DeepLabV3": lambda models: models.DeepLabV3Backbone(
        image_encoder=_resnet(models),
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P4",
        dilation_rates=[2, 4],
        upsampling_size=4,
        image_shape=(64, 64, 3),
        projection_filters=20,
    ),
    "DepthAnything": _dino,
    "MetaCLIP2": lambda models: _two_towers(models, "MetaCLIP2", "metaclip_2"),
    "PARSeq": _parseq,
    "RetinaNet": lambda models: models.RetinaNetBackbone(
        image_encoder=_resnet(models),
        min_level=3,
        max_level=5,
        use_p5=True,
        image_shape=(64, 64, 3),
    ),
    "SAM": _sam,
    "SegFormer": lambda models: models.SegFormerBackbone(
        image_encoder=models.MiTBackbone(**MIT, **SMALL), projection_filters=40
    ),
    "SigLIP": lambda models: _two_towers(models, "SigLIP", "siglip"),
    "StableDiffusion3": _diffusion,
}
NAMES = (*BACKBONES, *COMPOSED)


def make(name: str) -> Any:
    """A small backbone with random weights, whose inputs have a fixed length."""
    import keras
    import keras_hub  # an optional package

    keras.utils.set_random_seed(0)
    models = keras_hub.models
    if name in COMPOSED:
        model = COMPOSED[name](models)
    else:
        model = getattr(models, f"{name}Backbone")(**BACKBONES[name])
    return fixed(model)


def fixed(model: Any) -> Any:
    """A model called on inputs with as many steps as `LENGTH` where its own leave the number open."""
    import keras

    if not any(None in tuple(tensor.shape)[1:] for tensor in model.inputs):
        return model

    def given(tensor: Any) -> Any:
        shape = [size or LENGTH for size in tensor.shape[1:]]
        shape = SHAPES.get(model.name, {}).get(tensor.name, shape)
        return keras.Input(shape, dtype=tensor.dtype, name=tensor.name)

    inputs = keras.tree.map_structure(given, model.input)
    return keras.Model(inputs, model(inputs), name=model.name)
