import { AWS_FIELDS } from "./flow-logs.ts";
import { excerptOf, MAX_RECORD_BYTES, type Place, type Split, type Splitter } from "./split.ts";

/** Rows out of a stream of bytes: CSV with a header, or columns set apart by spaces. A row gives an object of texts. */

const NEWLINE = 0x0a;

/** A first line with one of these names the columns. */
const HEADER =
  /^(?:start|srcaddr|src_ip|src-addr|timestamp|time|action|dstaddr|dest_ip|version|log-status)$/i;

export class TableSplitter implements Splitter {
  /** Any first line names the columns. */
  readonly #alwaysHeader: boolean;
  #names: readonly string[] | undefined;
  #cells: (line: string) => string[] = spacedCells;
  #kept: Uint8Array[] = [];
  #keptBytes = 0;
  #line = 1;
  #offset = 0;

  constructor(alwaysHeader: boolean) {
    this.#alwaysHeader = alwaysHeader;
  }

  push(chunk: Uint8Array): Split[] {
    const found: Split[] = [];
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      found.push(...this.#row(chunk.subarray(from, at), 1));
      from = at + 1;
      this.#line++;
    }
    const rest = chunk.subarray(from);
    this.#keptBytes += rest.length;
    if (this.#keptBytes <= MAX_RECORD_BYTES) this.#kept.push(rest.slice());
    return found;
  }

  end(): Split[] {
    return this.#row(new Uint8Array(), 0);
  }

  #row(rest: Uint8Array, newline: 0 | 1): Split[] {
    const bytes = Buffer.concat([...this.#kept, rest]);
    const length = this.#keptBytes + rest.length;
    const place: Place = { line: this.#line, offset: this.#offset };
    this.#offset += length + newline;
    [this.#kept, this.#keptBytes] = [[], 0];
    if (length > MAX_RECORD_BYTES)
      return [{ ok: false, place, message: `a line of ${length} bytes: more than ${MAX_RECORD_BYTES}` }];
    const line = bytes.toString("utf8").replace(/\r$/, "");
    if (line.trim() === "") return [];
    if (this.#names === undefined) {
      this.#cells = line.includes(",") ? csvCells : line.includes("\t") ? tabbedCells : spacedCells;
      const cells = this.#cells(line).map((cell) => cell.trim());
      const isHeader = this.#alwaysHeader || cells.some((cell) => HEADER.test(cell));
      this.#names = isHeader ? cells : AWS_FIELDS;
      if (isHeader) return [];
    }
    const names = this.#names;
    const values = this.#cells(line);
    if (values.length !== names.length) {
      const message = `${values.length} columns where ${names.length} are expected: ${excerptOf(bytes)}`;
      return [{ ok: false, place, message }];
    }
    return [{ ok: true, place, value: Object.fromEntries(names.map((name, i) => [name, values[i]])) }];
  }
}

const spacedCells = (line: string): string[] => line.trim().split(/\s+/);
const tabbedCells = (line: string): string[] => line.split("\t");

/** Fields with commas are in quotes, quotes in them doubled (RFC 4180); a field does not span lines here. */
function csvCells(line: string): string[] {
  return [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(
    ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? "",
  );
}
