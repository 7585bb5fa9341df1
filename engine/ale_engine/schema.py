"""The protobuf messages of package tinker_public that this engine reads and writes, built without generated code.

Presence of scalars and `oneof`s do not change the bytes, so they are left out; provenance spans and the insides of
pictures are skipped as unknown fields.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "tinker_public"

# message -> (field, number, type); "*" repeats, "A>B" is a map, a capital letter starts a message.
_MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "SampleResponse": (
        ("sequences", 1, "*SampledSequence"),
        ("prompt_logprobs", 2, "bytes"),
        ("topk_prompt_logprobs", 3, "TopkLogprobs"),
        ("prompt_cache_hit_tokens", 4, "int32"),
    ),
    "SampledSequence": (("stop_reason", 1, "int32"), ("tokens", 2, "bytes"), ("logprobs", 3, "bytes")),
    "TopkLogprobs": (("token_ids", 1, "bytes"), ("logprobs", 2, "bytes"), ("k", 3, "uint32"), ("length", 4, "uint32")),
    "SparseCsr": (("values", 1, "bytes"), ("crow_indices", 2, "bytes"), ("col_indices", 3, "bytes")),
    "Tensor": (("dense", 1, "bytes"), ("sparse_csr", 2, "SparseCsr"), ("dtype", 3, "int32"), ("shape", 4, "*int64")),
    "BatchedTensor": (
        ("data", 1, "bytes"),
        ("offsets", 2, "bytes"),
        ("dtype", 3, "int32"),
        ("trailing_shape", 4, "*int64"),
    ),
    "ArrayRecord": (("type_tag", 1, "string"), ("fields", 2, "string>BatchedTensor"), ("num_datums", 3, "int64")),
    "ForwardBackwardOutput": (
        ("loss_fn_output_type", 1, "string"),
        ("loss_fn_outputs", 2, "*ArrayRecord"),
        ("metrics", 3, "string>double"),
    ),
    "LossConfigValue": (("number", 1, "double"), ("text", 2, "string")),
    "ForwardBackwardRequest": (
        ("model_id", 1, "string"),
        ("seq_id", 2, "int32"),
        ("data", 3, "*Datum"),
        ("loss_fn", 4, "string"),
        ("loss_fn_config", 5, "string>double"),
        ("forward_only", 6, "bool"),
        ("loss_fn_config_v2", 7, "string>LossConfigValue"),
    ),
    "Datum": (("model_input", 1, "*Chunk"), ("loss_fn_inputs", 2, "string>Tensor")),
    "Chunk": (("encoded_text", 1, "EncodedTextChunk"), ("image", 2, "OtherChunk"), ("dmel", 3, "OtherChunk")),
    "EncodedTextChunk": (("tokens", 1, "bytes"),),
    "OtherChunk": (),
}


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="tinker_public.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            repeated, kind = kind.startswith("*"), kind.lstrip("*")
            if ">" in kind:
                key, _, value = kind.partition(">")
                entry = message.nested_type.add(name=field.title().replace("_", "") + "Entry")
                entry.options.map_entry = True
                _add(entry, "key", 1, key, False)
                _add(entry, "value", 2, value, False)
                repeated, kind = True, f"{name}.{entry.name}"
            _add(message, field, number, kind, repeated)
    # A pool of its own: a client library in the same process may register the same package.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


def _add(message: Any, name: str, number: int, kind: str, repeated: bool) -> None:
    field = message.field.add(name=name, number=number)
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind[0].isupper():
        field.type, field.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")


MESSAGES = _build()
