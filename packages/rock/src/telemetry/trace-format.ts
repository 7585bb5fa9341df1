/** How the kernel lays out an event, from its own description: offsets differ between kernels, names do not. */

export interface TraceFormat {
  readonly name: string;
  readonly id: number;
  readonly fields: readonly TraceField[];
}

interface TraceField {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
  readonly signed: boolean;
  /** A text of which the field holds only the place and length. */
  readonly text: boolean;
}

/** Throws where it is no such description. */
export function parseFormat(text: string): TraceFormat {
  const name = /^name: (\S+)$/m.exec(text)?.[1];
  const id = Number(/^ID: (\d+)$/m.exec(text)?.[1]);
  if (name === undefined || !Number.isInteger(id)) throw new Error(`no trace event: ${text.slice(0, 80)}`);
  const pattern = /^\tfield:([^;]+);\toffset:(\d+);\tsize:(\d+);\tsigned:([01]);$/gm;
  const fields = [...text.matchAll(pattern)].map(([, declaration = "", offset, size, signed]) => ({
    name: /(\w+)(\[[^\]]*\])?$/.exec(declaration.trim())?.[1] ?? "",
    offset: Number(offset),
    size: Number(size),
    signed: signed === "1",
    text: declaration.startsWith("__data_loc"),
  }));
  return { name, id, fields };
}

export type ReadNumber = (data: Buffer) => number;
export type ReadText = (data: Buffer) => string;

/** Throws where the event has no such field. */
export function numberIn(format: TraceFormat, name: string): ReadNumber {
  const { offset, size, signed } = fieldOf(format, name);
  if (size === 8) return (data) => data.readUInt32LE(offset + 4) * 2 ** 32 + data.readUInt32LE(offset);
  if (size === 4) return signed ? (data) => data.readInt32LE(offset) : (data) => data.readUInt32LE(offset);
  return size === 2 ? (data) => data.readUInt16LE(offset) : (data) => data.readUInt8(offset);
}

export function textIn(format: TraceFormat, name: string): ReadText {
  const { offset, text } = fieldOf(format, name);
  if (!text) throw new Error(`${format.name}.${name} is no text`);
  return (data) => {
    const place = data.readUInt32LE(offset);
    const begin = place & 0xffff;
    const end = begin + (place >>> 16);
    return data.toString("utf8", begin, end).split("\0", 1)[0]!;
  };
}

export function bytesIn(format: TraceFormat, name: string): (data: Buffer) => Buffer {
  const { offset, size } = fieldOf(format, name);
  return (data) => data.subarray(offset, offset + size);
}

export const hasField = (format: TraceFormat, name: string): boolean =>
  format.fields.some((field) => field.name === name);

function fieldOf(format: TraceFormat, name: string): TraceField {
  const found = format.fields.find((field) => field.name === name);
  if (found === undefined) throw new Error(`the trace event ${format.name} has no field ${name}`);
  return found;
}
