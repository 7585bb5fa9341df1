import { watch } from "node:fs";

/** Changes are told by the kernel; where they are not, and for processes that ended, this is how long it takes until somebody looks. */
const POLL_MS = 500;

/** Calls `look` after every change of a folder, and now and then, until it is disposed of. */
export function onChange(directory: string, look: () => void): Disposable {
  const poll = setInterval(look, POLL_MS);
  const watcher = watching(directory, look);
  return {
    [Symbol.dispose]: () => {
      watcher?.close();
      clearInterval(poll);
    },
  };
}

/** A watch that breaks, or cannot be had, is made up for by looking. */
function watching(directory: string, look: () => void): ReturnType<typeof watch> | undefined {
  try {
    return watch(directory, look).on("error", () => {});
  } catch {
    return undefined;
  }
}
