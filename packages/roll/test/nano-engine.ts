import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  connectTinker,
  type EngineOptions,
  type EngineProcess,
  locateEngine,
  startEngine,
  type TinkerClient,
} from "../src/index.ts";

/** A real engine over a dense Qwen3 of 20,000 parameters with random weights, for tests. */

export const located = locateEngine();
export const skipReason = located.ok ? "" : ` (skipped: ${located.error.message}; ${located.error.next})`;

export const VOCABULARY = 64;

const CONFIG = {
  architectures: ["Qwen3ForCausalLM"],
  model_type: "qwen3",
  vocab_size: VOCABULARY,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 16,
  hidden_act: "silu",
  max_position_embeddings: 128,
  rms_norm_eps: 1e-6,
  rope_theta: 10_000,
  tie_word_embeddings: true,
  attention_bias: false,
  attention_dropout: 0,
  initializer_range: 0.3,
  eos_token_id: 1,
};

export interface Scratch {
  readonly directory: string;
  readonly options: EngineOptions;
  remove(): void;
}

export function scratchEngine(changes: Partial<EngineOptions> = {}): Scratch {
  const directory = mkdtempSync(join(tmpdir(), "ale-roll-"));
  const nano = join(directory, "nano");
  mkdirSync(nano);
  writeFileSync(join(nano, "config.json"), JSON.stringify(CONFIG));
  return {
    directory,
    options: {
      python: located.ok ? located.value.python : "python3",
      models: { nano },
      stateDir: join(directory, "state"),
      threads: 1,
      logPath: join(directory, "engine.log"),
      ...changes,
    },
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

export interface RunningEngine {
  readonly scratch: Scratch;
  readonly process: EngineProcess;
  readonly client: TinkerClient;
  close(): Promise<void>;
}

export async function runningEngine(): Promise<RunningEngine> {
  const scratch = scratchEngine();
  const process = await startEngine(scratch.options);
  const client = connectTinker({ baseUrl: process.baseUrl, died: process.died });
  return {
    scratch,
    process,
    client,
    close: async () => {
      client.close();
      await process.stop();
      scratch.remove();
    },
  };
}
