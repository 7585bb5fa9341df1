import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Dense Qwen3 at the size of the quickstart's model: 4 layers of width 96, about half a million parameters. */
export const NANO_QWEN3 = {
  architectures: ["Qwen3ForCausalLM"],
  model_type: "qwen3",
  vocab_size: 512,
  hidden_size: 96,
  intermediate_size: 256,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 24,
  hidden_act: "silu",
  max_position_embeddings: 512,
  rms_norm_eps: 1e-6,
  rope_theta: 10_000,
  tie_word_embeddings: true,
  attention_bias: false,
  attention_dropout: 0,
  initializer_range: 0.05,
  bos_token_id: 0,
  eos_token_id: 1,
} as const;

/** Writes a model directory without weights; the engine initialises them at random from the config and a seed. */
export function writeNanoModel(directory: string): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "config.json"), `${JSON.stringify(NANO_QWEN3, null, 2)}\n`);
}
