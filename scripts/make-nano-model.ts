/**
 * Writes models/nano: architecture and tokenizer of the smallest model that can do the nano tasks. Everything follows from the
 * families' word list; a test holds the committed files against it. Run: node scripts/make-nano-model.ts
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { NANO_WORDS } from "../packages/bench/src/index.ts";
import { writeNanoTokenizer } from "../packages/gateway/src/index.ts";

const directory = resolve(process.argv[2] ?? join(import.meta.dirname, "..", "models", "nano"));
mkdirSync(directory, { recursive: true });
const { vocabSize, tokenizer } = await writeNanoTokenizer(directory, NANO_WORDS);
const vocab = (tokenizer.model as { readonly vocab: Readonly<Record<string, number>> }).vocab;

/** Dense Qwen3, ROME's family: grouped-query attention, QK-norm, RoPE, SwiGLU, tied embeddings. */
const config = {
  architectures: ["Qwen3ForCausalLM"],
  model_type: "qwen3",
  vocab_size: vocabSize,
  hidden_size: 96,
  intermediate_size: 256,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 24,
  max_position_embeddings: 512,
  rope_parameters: { rope_type: "default", rope_theta: 10000 },
  rms_norm_eps: 1e-6,
  hidden_act: "silu",
  attention_bias: false,
  attention_dropout: 0,
  initializer_range: 0.08,
  tie_word_embeddings: true,
  use_cache: true,
  bos_token_id: null,
  eos_token_id: vocab["<|end|>"],
  pad_token_id: vocab["<|pad|>"],
  dtype: "float32",
};
writeFileSync(join(directory, "config.json"), `${JSON.stringify(config, null, 2)}\n`);
console.log(`${directory}: ${vocabSize} tokens`);
