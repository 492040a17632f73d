"""Files for the tests of the programs: a Gemma 3 270M of zeros that knows one sentence (GGUF), a SmolLM2
135M that knows the same (safetensors), and small files that are no model of ours.

The sentence. All matrices but the embedding are zero, so the residual stream is the embedding of the
token itself. Token k of the sentence has the embedding c_k (x_k + 2 x_(k-1)), x_k being unit vectors
and c_k = 8^k. After token k the logit of token k + 1 is then 2 c_(k+1) times a constant, its own 5 c_k
times that constant, which is less, and every other one is smaller or 0. So greedy decoding goes
through the sentence, whatever came before. Every value is exact in Q8_0.
"""

import json
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


# --- safetensors ----------------------------------------------------------------------------------

SMOLLM2 = {  # config.json of HuggingFaceTB/SmolLM2-135M, as far as it says something of the model
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "hidden_act": "silu",
    "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100000, "rope_scaling": None,
    "tie_word_embeddings": True, "attention_bias": False, "eos_token_id": END_OF_TURN,
}


def safetensors_shapes():
    """name: shape of SmolLM2 135M, the contiguous dimension last."""
    out = {"model.embed_tokens.weight": [49152, 576], "model.norm.weight": [576]}
    for i in range(30):
        for name, shape in (("self_attn.q_proj", [576, 576]), ("self_attn.k_proj", [192, 576]),
                            ("self_attn.v_proj", [192, 576]), ("self_attn.o_proj", [576, 576]),
                            ("mlp.gate_proj", [1536, 576]), ("mlp.up_proj", [1536, 576]),
                            ("mlp.down_proj", [576, 1536]), ("input_layernorm", [576]),
                            ("post_attention_layernorm", [576])):
            out[f"model.layers.{i}.{name}.weight"] = shape
    return out


def bfloat16(values):
    return b"".join(struct.pack("<f", value)[2:] for value in values)


def write_safetensors(path, shapes, data):
    """A file of bfloat16 tensors, zero but for `data`: {name: [(offset, bytes)]}."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text_of_it = json.dumps(header).encode()
    text_of_it += b" " * (-len(text_of_it) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text_of_it)) + text_of_it)
        out.truncate(8 + len(text_of_it) + offset)
        for name, parts in data.items():
            for at, part in parts if name in shapes else ():
                out.seek(8 + len(text_of_it) + header[name]["data_offsets"][0] + at)
                out.write(part)


def write_folder(folder, config=None, shards=1, shapes=None):
    """A folder with a SmolLM2 135M that says the sentence after any of its tokens, or after BOS."""
    folder.mkdir(exist_ok=True)
    shapes = shapes or safetensors_shapes()
    rows = []
    for k, token in enumerate(SENTENCE):
        scale = 8.0 ** k / 512
        row = [0.0] * k + [2 * scale, scale]
        rows.append((token * 576 * 2, bfloat16(row)))
    rows.append((BOS * 576 * 2, bfloat16([2 / 8192])))
    data = {"model.embed_tokens.weight": rows, "model.norm.weight": [(0, bfloat16([1.0] * 576))]}
    (folder / "config.json").write_text(json.dumps(config or SMOLLM2))
    names = list(shapes)
    parts = [names[k * len(names) // shards:(k + 1) * len(names) // shards] for k in range(shards)]
    files = (["model.safetensors"] if shards == 1 else
             [f"model-{k + 1:05}-of-{shards:05}.safetensors" for k in range(shards)])
    for file, part in zip(files, parts):
        write_safetensors(folder / file, {name: shapes[name] for name in part}, data)
    if shards > 1:
        weight_map = {name: file for file, part in zip(files, parts) for name in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder
