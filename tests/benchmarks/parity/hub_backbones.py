"""Every backbone of KerasHub, small, with random weights.

Widths are multiples of ten where a backbone leaves them free, so that 30 % of the units of a layer are a whole number.
Inputs whose length is open are given one (`LENGTH` steps): what a network does to an open length cannot be recorded.
"""

from __future__ import annotations

from typing import Any

LENGTH = 16
SHAPES = {  # of inputs that take no other length
    "moonshine_backbone": {"encoder_input_values": (1600, 1), "encoder_padding_mask": (1600,)},
    "sam_backbone": {"masks": (1, 32, 32, 1)},
}

TEXT: dict[str, Any] = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 80}
TEXT |= {"intermediate_dim": 160}
ENCODER = {**TEXT, "num_heads": 4, "max_sequence_length": 40}
GROUPED = {"num_query_heads": 4, "num_key_value_heads": 2}
DECODER = {**TEXT, **GROUPED}
EXPERTS = {**DECODER, "num_experts": 4, "top_k": 2}
QWEN_MOE = {**EXPERTS, "moe_intermediate_dim": 40}
SMALL = {"image_shape": (32, 32, 3)}
VIT = {**SMALL, "patch_size": 8, "num_layers": 2, "num_heads": 4, "hidden_dim": 40}
SMOL = {**TEXT, "num_attention_heads": 4, "num_key_value_heads": 2, "attention_bias": False}
SMOL |= {"attention_dropout": 0.0, "rope_layer_enabled_list": [True, True], "mlp_bias": False}
SMOL |= {"layer_types": ["attention", "attention"], "layer_norm_epsilon": 1e-5}
SMOL |= {"max_position_embeddings": 64, "rope_theta": 1e4, "partial_rotary_factor": 1.0}
LINEAR = {"layer_types": ["linear_attention", "full_attention"], "head_dim": 20}
LINEAR |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 10}
LINEAR |= {"linear_value_head_dim": 10, "linear_conv_kernel_dim": 4, "partial_rotary_factor": 0.4}
RESNET: dict[str, Any] = {"input_conv_filters": [40], "input_conv_kernel_sizes": [3]}
RESNET |= {"stackwise_num_filters": [64, 128], "stackwise_num_blocks": [1, 1]}
RESNET |= {"stackwise_num_strides": [1, 2], "block_type": "basic_block"}
RESNET["input_conv_filters"] = [64]
STAGES = {"stackwise_num_filters": [64, 64, 64, 64], "stackwise_num_blocks": [1, 1, 1, 1]}
STAGES |= {"stackwise_num_strides": [1, 2, 2, 2], "block_type": "basic_block"}
MIT: dict[str, Any] = {"layerwise_depths": [1, 1], "num_layers": 2, "layerwise_num_heads": [1, 2]}
MIT |= {"layerwise_sr_ratios": [2, 1], "max_drop_path_rate": 0.1, "layerwise_patch_sizes": [7, 3]}
MIT |= {"layerwise_strides": [4, 2], "hidden_dims": [20, 40]}
CSP: dict[str, Any] = {"stem_filters": 20, "stem_kernel_size": 3, "stem_strides": 1}
CSP |= {"stackwise_depth": [1, 1], "stackwise_strides": [1, 2], "stackwise_num_filters": [20, 40]}
CSP |= {"block_type": "dark_block", "stage_type": "csp", "stem_padding": "same"}
CSP |= {"bottle_ratio": (0.5, 1.0), "block_ratio": (1.0, 0.5), "expand_ratio": (2.0, 1.0)}
CSP |= {"down_growth": True, "stackwise_strides": 2}
GEMMA_ENDS = {
    f"{part}_{name}": value
    for part in ("encoder", "decoder")
    for name, value in {
        **{"hidden_dim": 80, "intermediate_dim": 160, "num_layers": 2, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "head_dim": 20},
        "layer_types": ["sliding_attention", "full_attention"],
    }.items()
}
T5_GEMMA = {**GEMMA_ENDS, "vocabulary_size": 50, "sliding_window": 8}
T5_GEMMA |= {"cross_attention_hidden_size": 80, "hidden_activation": "gelu_approximate"}
MOBILE: dict[str, Any] = {
    "stackwise_expansion": [[40, 50], [60, 80]],
    "stackwise_num_blocks": [2, 2],
}
MOBILE |= {"stackwise_num_filters": [[20, 20], [30, 30]], "stackwise_kernel_size": [[3, 3], [5, 5]]}
MOBILE |= {
    "stackwise_num_strides": [[2, 1], [2, 1]],
    "stackwise_se_ratio": [[None, None], [0.25, 0.25]],
}
MOBILE |= {"stackwise_activation": [["relu", "relu"], ["hard_swish", "hard_swish"], ["hard_swish"]]}
MOBILE |= {
    "stackwise_padding": [[1, 1], [2, 2]],
    "output_num_filters": 100,
    "depthwise_filters": 10,
}
MOBILE |= {"depthwise_stride": 2, "depthwise_residual": False, "squeeze_and_excite": 0.5}
MOBILE |= {"last_layer_filter": 80, "input_num_filters": 20}
EFFICIENT: dict[str, Any] = {"stackwise_kernel_sizes": [3, 3], "stackwise_num_repeats": [1, 2]}
EFFICIENT |= {"stackwise_input_filters": [24, 24], "stackwise_output_filters": [24, 48]}
EFFICIENT |= {"stackwise_expansion_ratios": [2, 4], "stackwise_strides": [2, 2]}
EFFICIENT |= {"stackwise_squeeze_and_excite_ratios": [0.0, 0.25]}
EFFICIENT |= {
    "stackwise_block_types": ["fused", "unfused"],
    "stackwise_force_input_filters": [0, 0],
}
EFFICIENT |= {"stackwise_nores_option": [False, False], "input_shape": (32, 32, 3)}
EFFICIENT |= {
    "stackwise_width_coefficients": [1.0, 1.0],
    "stackwise_depth_coefficients": [1.0, 1.0],
}
EFFICIENT |= {"num_features": 100}
HGNET: dict[str, Any] = {"embedding_size": 20, "stem_channels": [3, 10, 20], "hidden_act": "relu"}
HGNET |= {"use_learnable_affine_block": False, "depths": [1, 1], "hidden_sizes": [40, 80]}
HGNET |= {"stackwise_stage_filters": [[20, 10, 40, 1, 1, 3], [40, 20, 80, 1, 1, 3]]}
HGNET |= {"apply_downsample": [False, True], "use_lightweight_conv_block": [False, False]}
V5: dict[str, Any] = {
    "stackwise_block_types": [["er"], ["uir", "uir"]],
    "stackwise_num_blocks": [1, 2],
}
V5 |= {"stackwise_num_filters": [[20], [40, 40]], "stackwise_strides": [[2], [2, 1]]}
V5 |= {
    "stackwise_act_layers": [["relu"], ["relu", "relu"]],
    "stackwise_exp_ratios": [[4.0], [6.0, 6.0]],
}
V5 |= {"stackwise_exp_kernel_sizes": [[3], [0, 0]], "stackwise_pw_kernel_sizes": [[1], [0, 0]]}
V5 |= {"stackwise_dw_kernel_sizes": [[0], [5, 5]], "stackwise_use_cpe": [[False], [False, False]]}
V5 |= {"stackwise_se_ratios": [[0.0], [0.0, 0.0]], "stem_size": 20, "use_msfa": False}
V5 |= {
    f"stackwise_{name}s": [[0], [0, 0]]
    for name in ("dw_start_kernel_size", "dw_end_kernel_size", "num_head", "key_dim", "value_dim")
}
V5 |= {"stackwise_kv_strides": [[0], [0, 0]]}
CLIP_VISION = {"patch_size": 8, "hidden_dim": 40, "num_layers": 2, "num_heads": 4}
CLIP_VISION |= {"intermediate_dim": 80, "image_shape": (32, 32, 3)}
CLIP_TEXT = {"vocabulary_size": 50, "embedding_dim": 40, "hidden_dim": 40, "num_layers": 2}
CLIP_TEXT |= {"num_heads": 4, "intermediate_dim": 80, "max_sequence_length": LENGTH}

# The arguments of each small backbone; those made of other models stand in `hub_composed`.
BACKBONES: dict[str, dict[str, Any]] = {
    "Albert": {**ENCODER, "embedding_dim": 20},
    "Bart": ENCODER,
    "Bert": ENCODER,
    "Bloom": {**TEXT, "num_heads": 4},
    "CSPNet": {**CSP, **SMALL},
    "DINOV2": {**VIT, "intermediate_dim": 80, "position_embedding_shape": (32, 32, 3)},
    "DINOV3": {**VIT, "hidden_dim": 80, "intermediate_dim": 160},
    "DebertaV3": ENCODER,
    "DeiT": {**VIT, "intermediate_dim": 80},
    "DenseNet": {"stackwise_num_repeats": [2, 2], "growth_rate": 10, **SMALL},
    "DistilBert": ENCODER,
    "ESM": {**TEXT, "num_heads": 4, "max_sequence_length": 40},
    "EdRec": {"vocab_size": 50, "num_layers_enc": 2, "num_layers_dec": 2, "num_heads": 4}
    | {"hidden_dim": 80, "intermediate_dim": 160},
    "EfficientNet": EFFICIENT,
    "Electra": {**{k: v for k, v in ENCODER.items() if k != "vocabulary_size"}}
    | {"vocab_size": 50, "embedding_dim": 20},
    "FNet": {**TEXT, "max_sequence_length": 40},
    "Falcon": {**TEXT, "num_attention_heads": 4},
    "Flux": {"input_channels": 10, "hidden_size": 80, "mlp_ratio": 2.0, "num_heads": 4, "depth": 1}
    | {"depth_single_blocks": 1, "axes_dim": [4, 8, 8], "theta": 10000, "use_bias": True}
    | {"image_shape": (LENGTH, 10), "text_shape": (LENGTH, 10), "image_ids_shape": (LENGTH, 3)}
    | {"text_ids_shape": (LENGTH, 3), "y_shape": (20,)},
    "GPT2": ENCODER,
    "GPTNeoX": {**TEXT, "num_heads": 4, "max_sequence_length": 40, "rotary_percentage": 1.0},
    "Gemma": {**DECODER, "head_dim": 20},
    "Gemma3": {**DECODER, "head_dim": 20, "image_size": 16},
    "Gemma3n": {"text_vocab_size": 50, "text_hidden_size": 40, "num_hidden_layers": 1}
    | {"pad_token_id": 0, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 20}
    | {"intermediate_size": [80], "hidden_activation": "gelu_approximate", "sliding_window": 8}
    | {"layer_types": ["full_attention"], "rope_theta": 1e4, "max_position_embeddings": 64}
    | {"vocab_size_per_layer_input": 50, "hidden_size_per_layer_input": 10, "laurel_rank": 10}
    | {"altup_num_inputs": 2},
    "Gemma4": {**DECODER, "head_dim": 20, "image_size": 16, "sliding_window_size": 8},
    "GptOss": EXPERTS,
    "HGNetV2": {**HGNET, **SMALL},
    "Llama": DECODER,
    "Llama3": DECODER,
    "MiT": {**MIT, **SMALL},
    "Mistral": DECODER,
    "Mixtral": EXPERTS,
    "MobileNet": {**MOBILE, **SMALL},
    "MobileNetV5": {**V5, **SMALL},
    "Moonshine": {"vocabulary_size": 50, "filter_dim": 80, "encoder_num_layers": 1}
    | {"decoder_num_layers": 1, "hidden_dim": 80, "intermediate_dim": 160}
    | {"encoder_num_heads": 4, "decoder_num_heads": 4, "max_position_embeddings": 64},
    "OPT": ENCODER,
    "PaliGemma": {**DECODER, "head_dim": 20, "image_size": 16, "vit_patch_size": 4}
    | {"vit_num_heads": 4, "vit_hidden_dim": 80, "vit_num_layers": 1, "vit_intermediate_dim": 160},
    "Phi3": DECODER,
    "Qwen": DECODER,
    "Qwen3": {**DECODER, "head_dim": 20},
    "Qwen3Moe": {**QWEN_MOE, "head_dim": 20},
    "Qwen3_5": {**DECODER, **LINEAR},
    "Qwen3_5Moe": {**{k: v for k, v in QWEN_MOE.items() if k != "intermediate_dim"}, **LINEAR}
    | {"shared_expert_intermediate_size": 40},
    "QwenMoe": {**QWEN_MOE, "shared_expert_intermediate_dim": 40},
    "RWKV7": {"hidden_size": 80, "head_size": 20, "num_layers": 2, "vocabulary_size": 50}
    | {"intermediate_dim": 160, "gate_lora": 40, "mv_lora": 20, "aaa_lora": 20, "decay_lora": 20},
    "ResNet": {**RESNET, **SMALL},
    "Roberta": ENCODER,
    "RoformerV2": {**TEXT, "num_heads": 4, "head_size": 20},
    "SmolLM": SMOL,
    "SwinTransformer": {"image_shape": (32, 32, 3), "embed_dim": 20, "depths": (1, 2)}
    | {"num_heads": (2, 4), "window_size": 4},
    "T5": {**TEXT, "num_heads": 4},
    "T5Gemma": T5_GEMMA,
    "T5Gemma2": T5_GEMMA,
    "VGG": {"stackwise_num_repeats": [1, 2], "stackwise_num_filters": [20, 40], **SMALL},
    "ViT": {**VIT, "mlp_dim": 80},
    "ViTDet": {"image_shape": (32, 32, 3), "patch_size": 4, "hidden_size": 40, "num_layers": 2}
    | {"global_attention_layer_indices": [1], "intermediate_dim": 80, "num_heads": 4}
    | {"num_output_channels": 20, "window_size": 4},
    "VideoPrism": {"num_frames": 4, "patch_size": 4, "hidden_dim": 40, "intermediate_dim": 80}
    | {"num_heads": 4, "num_spatial_layers": 1, "num_temporal_layers": 1}
    | {"num_auxiliary_layers": 1, "image_shape": (16, 16, 3)},
    "Whisper": {**TEXT, "num_heads": 4, "num_mels": 20, "max_encoder_sequence_length": 2 * LENGTH}
    | {"max_decoder_sequence_length": LENGTH},
    "XLMRoberta": ENCODER,
    "XLNet": {**TEXT, "num_heads": 4},
    "Xception": {"stackwise_conv_filters": [[20, 30], [40, 40], [80, 80]]}
    | {"stackwise_pooling": [False, True, False], **SMALL},
}

# The same class under another name, and one that others derive from.
NAMESAKES = {"ESM2": "ESM", "Qwen2": "Qwen", "SmolLM3": "SmolLM", "FeaturePyramid": None}
