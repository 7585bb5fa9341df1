import { defineConfig } from "vitest/config";

// Suites that need root, crun or the engine carry their own skip conditions and say why they skip.
export default defineConfig({
  test: {
    include: ["packages/*/test/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
  },
});
