"""GGUF files for the tests of the programs: a Gemma 3 270M of zeros that knows one sentence, and small
files that are no model of ours.

The sentence. All matrices but the embedding are zero, so the residual stream is the embedding of the
token itself. Token k of the sentence has the embedding c_k (x_k + 2 x_(k-1)), x_k being unit vectors
and c_k = 8^k. After token k the logit of token k + 1 is then 2 c_(k+1) times a constant, its own 5 c_k
times that constant, which is less, and every other one is smaller or 0. So greedy decoding goes
through the sentence, whatever came before. Every value is exact in Q8_0.
"""

import struct

U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9
TYPE_F32, TYPE_Q8_0 = 0, 8

VOCABULARY, HIDDEN, FFN, LAYERS = 262144, 640, 2048, 18
PAD, EOS, BOS, UNK, END_OF_TURN = 0, 1, 2, 3, 106
FIRST_BYTE = 238
SENTENCE = [1000, 1001, 1002, 1003, 1004, END_OF_TURN]  # the last one ends the text
WORDS = ["▁rings", "▁keep", "▁what", "▁they", "▁promised"]
SENTENCE_TEXT = "".join(WORDS).replace("▁", " ")

NUMBERS = {  # metadata of Gemma 3 270M
    "block_count": LAYERS, "context_length": 32768, "embedding_length": HIDDEN,
    "feed_forward_length": FFN, "attention.head_count": 4, "attention.head_count_kv": 1,
    "attention.key_length": 256, "attention.value_length": 256, "attention.sliding_window": 512,
    "rope.freq_base": 1e6, "attention.layer_norm_rms_epsilon": 1e-6,
}


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def entry(key, value):
    """One metadata entry; the type follows from the value."""
    head = text(key)
    if isinstance(value, bool):
        return head + struct.pack("<IB", BOOL, value)
    if isinstance(value, int):
        return head + struct.pack("<II", U32, value)
    if isinstance(value, float):
        return head + struct.pack("<If", F32, value)
    if isinstance(value, (str, bytes)):
        return head + struct.pack("<I", STRING) + text(value)
    if isinstance(value[0], str):
        return head + struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(text, value))
    kind, code = (F32, "f") if isinstance(value[0], float) else (U32, "I")
    return head + struct.pack(f"<IIQ{len(value)}{code}", ARRAY, kind, len(value), *value)


def vocabulary(size):
    """(texts, kinds) with the special tokens, the bytes, the space, letters and the sentence."""
    texts = [f"word{i}" for i in range(size)]
    kinds = [1] * size
    for i, name in ((PAD, "<pad>"), (EOS, "<eos>"), (BOS, "<bos>"), (UNK, "<unk>"),
                    (END_OF_TURN, "<end_of_turn>")):
        texts[i], kinds[i] = name, 3
    for byte in range(256):
        texts[FIRST_BYTE + byte], kinds[FIRST_BYTE + byte] = f"<0x{byte:02X}>", 6
    texts[500] = "▁"
    for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz"):
        texts[501 + i] = letter
    if size > SENTENCE[0] + len(WORDS):
        texts[SENTENCE[0]:SENTENCE[0] + len(WORDS)] = WORDS
    return texts, kinds


def metadata(numbers=None, size=VOCABULARY, architecture="gemma3"):
    texts, kinds = vocabulary(size)
    values = {"general.architecture": architecture}
    values.update({f"{architecture}.{k}": v for k, v in (numbers or NUMBERS).items()})
    values.update({
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.scores": [-float(i) for i in range(size)],
        "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": EOS, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": False,
    })
    return values


def tensors():
    """name: (dims, type) of Gemma 3 270M, the contiguous dimension first."""
    out = {"token_embd.weight": ((HIDDEN, VOCABULARY), TYPE_Q8_0),
           "output_norm.weight": ((HIDDEN,), TYPE_F32)}
    for i in range(LAYERS):
        for name, dims in (("attn_q", (HIDDEN, 1024)), ("attn_k", (HIDDEN, 256)),
                           ("attn_v", (HIDDEN, 256)), ("attn_output", (1024, HIDDEN)),
                           ("ffn_gate", (HIDDEN, FFN)), ("ffn_up", (HIDDEN, FFN)),
                           ("ffn_down", (FFN, HIDDEN))):
            out[f"blk.{i}.{name}.weight"] = (dims, TYPE_Q8_0)
        for name, size in (("attn_norm", HIDDEN), ("attn_q_norm", 256), ("attn_k_norm", 256),
                           ("post_attention_norm", HIDDEN), ("ffn_norm", HIDDEN),
                           ("post_ffw_norm", HIDDEN)):
            out[f"blk.{i}.{name}.weight"] = ((size,), TYPE_F32)
    return out


def bytes_of(dims, kind):
    count = 1
    for dim in dims:
        count *= dim
    return count * 4 if kind == TYPE_F32 else count // 32 * 34


def half(x):
    return struct.pack("<e", x)


def write(path, values, shapes, data=None, version=3, magic=b"GGUF"):
    """A GGUF file whose tensors are zero, and take no room on the disk, but for `data`:
    {name: [(offset, bytes)]}. Returns where the header, the metadata and the tensor table end."""
    header = magic + struct.pack("<IQQ", version, len(shapes), len(values))
    meta = b"".join(entry(k, v) for k, v in values.items())
    table, offset, places = b"", 0, {}
    for name, (dims, kind) in shapes.items():
        table += text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        table += struct.pack("<IQ", kind, offset)
        places[name] = offset
        offset += (bytes_of(dims, kind) + 31) // 32 * 32
    ends = [len(header), len(header + meta), len(header + meta + table)]
    begin = (ends[2] + 31) // 32 * 32
    with open(path, "wb") as out:
        out.write(header + meta + table)
        out.truncate(begin + offset)
        for name, parts in (data or {}).items():
            for at, part in parts:
                out.seek(begin + places[name] + at)
                out.write(part)
    return ends


def write_model(path, change=None):
    """The model that knows the sentence. `change(values, shapes, data)` may spoil it."""
    row = HIDDEN // 32 * 34
    embedding = []
    for k, token in enumerate(SENTENCE):
        block = bytearray(34)
        block[0:2] = half(8.0 ** k / 512)
        block[2 + k + 1] = 1
        block[2 + k] = 2
        embedding.append((token * row, bytes(block)))
    # Any other prompt begins the sentence: letters and <bos> have the embedding 2 x_0.
    for token in [BOS, 500, *range(501, 527), *range(FIRST_BYTE, FIRST_BYTE + 256)]:
        block = bytearray(34)
        block[0:2] = half(1.0 / 8192)
        block[2] = 2
        embedding.append((token * row, bytes(block)))
    values, shapes = metadata(), tensors()
    data = {"token_embd.weight": embedding,
            "output_norm.weight": [(0, struct.pack(f"<{HIDDEN}f", *[1.0] * HIDDEN))]}
    if change:
        change(values, shapes, data)
    return write(path, values, shapes, data)
