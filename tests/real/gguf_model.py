"""Makes a small model with random weights: real prefill and decode without a download.

Run as a script in the model server's own environment (`python gguf_model.py FILE`). The architecture is llama, the
tokenizer knows the printable ASCII characters, a few hundred syllables and every byte. The rows of special and byte
tokens in the output matrix are zero, so that the text stays readable and an early end of the stream is rare.
"""

import sys
from itertools import product
from pathlib import Path
from typing import Final

import gguf
import numpy as np
import numpy.typing as npt

LAYERS: Final = 8
WIDTH: Final = 384
HEADS: Final = 6
FEED_FORWARD: Final = 1_024
CONTEXT: Final = 2_048
SEED: Final = 20_250_607
SPECIAL: Final = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
LOGIT_SPREAD: Final = 3.0
"""Standard deviation of the logits: wide enough that ordinary tokens win against the zeros of special ones."""

Array = npt.NDArray[np.float32]


def vocabulary() -> tuple[list[str], list[float], list[gguf.TokenType]]:
    """Return the tokens, their scores and their kinds: special ones first, then bytes, then what text is made of."""
    syllables = ["".join(pair) for pair in product("bdfgklmnprst", "aeiou")]
    plain = [" ", *map(chr, range(0x21, 0x7F)), *syllables, *(f" {syllable}" for syllable in syllables)]
    spelled = [token.replace(" ", "\u2581") for token in plain]  # SentencePiece writes a space so
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *spelled]
    scores = [0.0] * (len(SPECIAL) + 256) + [-float(place) for place in range(len(spelled))]
    kinds = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * (len(SPECIAL) - 1)
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * len(spelled)
    return tokens, scores, kinds


def write_model(path: Path) -> None:
    """Write the model to `path`: the same bytes every time."""
    writer = gguf.GGUFWriter(str(path), "llama")
    tokens, scores, kinds = vocabulary()
    _write_shape(writer)
    _write_tokenizer(writer, tokens=tokens, scores=scores, kinds=kinds)
    _write_weights(writer, vocabulary_size=len(tokens))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_shape(writer: gguf.GGUFWriter) -> None:
    writer.add_name("isochrone-random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _write_tokenizer(
    writer: gguf.GGUFWriter, *, tokens: list[str], scores: list[float], kinds: list[gguf.TokenType]
) -> None:
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_unk_token_id(SPECIAL.index("<unk>"))
    writer.add_bos_token_id(SPECIAL.index("<s>"))
    writer.add_eos_token_id(SPECIAL.index("</s>"))


def _write_weights(writer: gguf.GGUFWriter, *, vocabulary_size: int) -> None:
    random = np.random.default_rng(SEED)

    def normal(rows: int, columns: int, *, spread: float = 1.0) -> Array:
        return (random.standard_normal((rows, columns)) * spread / np.sqrt(columns)).astype(np.float32)

    ones = np.ones(WIDTH, dtype=np.float32)
    output = normal(vocabulary_size, WIDTH, spread=LOGIT_SPREAD)
    output[: len(SPECIAL) + 256] = 0.0
    writer.add_tensor("token_embd.weight", normal(vocabulary_size, WIDTH, spread=WIDTH**0.5))
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", output)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{block}.{name}.weight", normal(WIDTH, WIDTH))
        writer.add_tensor(f"{block}.ffn_gate.weight", normal(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"{block}.ffn_up.weight", normal(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"{block}.ffn_down.weight", normal(WIDTH, FEED_FORWARD))
        writer.add_tensor(f"{block}.attn_norm.weight", ones)
        writer.add_tensor(f"{block}.ffn_norm.weight", ones)


if __name__ == "__main__":
    write_model(Path(sys.argv[1]))
