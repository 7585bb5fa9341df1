import koffi from "koffi";

/** Extended attributes, which Node does not offer. */

interface LibC {
  lgetxattr(path: string, name: string, value: Buffer | null, size: number): number;
  lsetxattr(path: string, name: string, value: Buffer, size: number, flags: number): number;
}

let loaded: LibC | undefined;

function libc(): LibC {
  const library = loaded === undefined ? koffi.load("libc.so.6") : undefined;
  loaded ??= {
    lgetxattr: library!.func(
      "long lgetxattr(const char *path, const char *name, _Out_ void *value, size_t size)",
    ),
    lsetxattr: library!.func(
      "int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)",
    ),
  };
  return loaded;
}

/** Whether an overlay shows nothing of the layers below this directory of a layer. */
export function isOpaque(directory: string): boolean {
  const value = Buffer.alloc(1);
  return ["trusted.overlay.opaque", "user.overlay.opaque"].some(
    (name) => libc().lgetxattr(directory, name, value, 1) === 1 && value.toString() === "y",
  );
}

export function makeOpaque(directory: string): void {
  const value = Buffer.from("y");
  if (libc().lsetxattr(directory, "trusted.overlay.opaque", value, 1, 0) !== 0)
    throw new Error(`cannot mark ${directory} as opaque (errno ${koffi.errno()})`);
}
