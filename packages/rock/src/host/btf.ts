import { readFileSync } from "node:fs";

/**
 * Where the running kernel keeps what in its structures, from its own description of its types (BTF; Documentation/bpf/btf.rst of Linux). Only what is
 * asked for is read: the whole description is some 5 MB and a hundred thousand types.
 */

const KERNEL = "/sys/kernel/btf/vmlinux";
const MAGIC = 0xeb9f;
const TYPE_BYTES = 12;
const MEMBER_BYTES = 12;
const [STRUCT, UNION] = [4, 5];
/** What follows a type, by its kind: so many bytes, and so many for each of its `vlen` parts. */
const FOLLOWED_BY: Readonly<Record<number, readonly [fixed: number, each: number]>> = {
  1: [4, 0],
  3: [12, 0],
  4: [0, MEMBER_BYTES],
  5: [0, MEMBER_BYTES],
  6: [0, 8],
  13: [0, 8],
  14: [4, 0],
  15: [0, 12],
  17: [4, 0],
  19: [0, 12],
};

/** Names of structures, with those of their members that are wanted. */
export type Wanted<Name extends string> = Readonly<Record<Name, readonly string[]>>;
/** Offsets in bytes, by member. */
export type Offsets<Name extends string> = Readonly<Record<Name, Readonly<Record<string, number>>>>;

/** Of the running kernel, in some 20 ms. Throws where it does not describe itself, or has not what is wanted. */
export function kernelOffsets<Name extends string>(wanted: Wanted<Name>): Offsets<Name> {
  return offsetsIn(readFileSync(KERNEL), wanted);
}

/** Throws where it is no such description, or a structure or member is not in it. */
export function offsetsIn<Name extends string>(btf: Buffer, wanted: Wanted<Name>): Offsets<Name> {
  if (btf.length < 24 || btf.readUInt16LE(0) !== MAGIC)
    throw new Error("no description of the kernel's types");
  const header = btf.readUInt32LE(4);
  const section = (at: number): Buffer => {
    const begin = header + btf.readUInt32LE(at);
    return btf.subarray(begin, begin + btf.readUInt32LE(at + 4));
  };
  const [types, strings] = [section(8), section(16)];
  const names = Object.keys(wanted) as Name[];
  const places = placesOf(types, new Set(names.map((name) => nameIn(strings, name))));
  const entries = names.map((name) => {
    const at = places.named.get(nameIn(strings, name));
    if (at === undefined) throw new Error(`the kernel describes no struct ${name}`);
    const members = wanted[name].map((member) => {
      const offset = memberOffset(types, places.all, at, nameIn(strings, member));
      if (offset === undefined) throw new Error(`the kernel's struct ${name} has no member ${member}`);
      return [member, offset] as const;
    });
    return [name, Object.fromEntries(members)] as const;
  });
  return Object.fromEntries(entries) as Offsets<Name>;
}

/** Where a name stands; -1, which no type is called, where it does not. Each stands once. */
const nameIn = (strings: Buffer, name: string): number => {
  const at = strings.indexOf(`\0${name}\0`);
  return at < 0 ? -1 : at + 1;
};

interface Places {
  /** Of each type, by its number. */
  readonly all: readonly number[];
  /** Of the wanted structures, by where their name stands. */
  readonly named: ReadonlyMap<number, number>;
}

function placesOf(types: Buffer, wanted: ReadonlySet<number>): Places {
  const words = new Uint32Array(types.length / 4);
  Buffer.from(words.buffer).set(types.subarray(0, words.byteLength));
  const all = [-1];
  const named = new Map<number, number>();
  for (let at = 0; at + TYPE_BYTES <= types.length; ) {
    all.push(at);
    const info = words[at / 4 + 1]!;
    const kind = (info >>> 24) & 31;
    if (kind === STRUCT && wanted.has(words[at / 4]!)) named.set(words[at / 4]!, at);
    const [fixed, each] = FOLLOWED_BY[kind] ?? [0, 0];
    at += TYPE_BYTES + fixed + each * (info & 0xffff);
  }
  return { all, named };
}

/** In bytes; also of a member of what has no name of its own inside. Undefined of one that shares its byte with others. */
function memberOffset(
  types: Buffer,
  places: readonly number[],
  at: number,
  name: number,
): number | undefined {
  const info = types.readUInt32LE(at + 4);
  const packed = info >>> 31 === 1;
  for (let n = 0; n < (info & 0xffff); n++) {
    const member = at + TYPE_BYTES + n * MEMBER_BYTES;
    const place = types.readUInt32LE(member + 8);
    const bits = packed ? place & 0xffffff : place;
    const called = types.readUInt32LE(member);
    if (called === name) return bits % 8 === 0 && (!packed || place >>> 24 === 0) ? bits / 8 : undefined;
    const inner = called === 0 ? places[types.readUInt32LE(member + 4)] : undefined;
    if (inner === undefined || inner < 0) continue;
    const kind = (types.readUInt32LE(inner + 4) >>> 24) & 31;
    if (kind !== STRUCT && kind !== UNION) continue;
    const within = memberOffset(types, places, inner, name);
    if (within !== undefined) return bits / 8 + within;
  }
  return undefined;
}
