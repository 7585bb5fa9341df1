/** DNS messages as far as a resolver needs them that answers from its own list (RFC 1035 §4). Queries are hostile input. */

export interface DnsQuery {
  readonly id: number;
  /** Lower-case, without the final dot. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  readonly recursionDesired: boolean;
  /** Where the question ends, for the answer to repeat it as it was. */
  readonly end: number;
  /** Whether it came with extensions (EDNS), which the answer then has too. */
  readonly extended: boolean;
}

export const DNS_TYPE = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  NULL: 10,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  HTTPS: 65,
  ANY: 255,
} as const;
const TYPE_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(DNS_TYPE).map(([name, type]) => [type, name]),
);
export const dnsTypeName = (type: number): string => TYPE_NAMES.get(type) ?? `TYPE${type}`;

const HEADER = 12;
const MAX_NAME = 255;
const INTERNET = 1;

/** Undefined for what is no plain query with one question: answers, updates, compressed or overlong names. */
export function readDnsQuery(message: Uint8Array): DnsQuery | undefined {
  if (message.length < HEADER) return undefined;
  const bytes = Buffer.from(message.buffer, message.byteOffset, message.length);
  const flags = bytes.readUInt16BE(2);
  const isQuery = (flags & 0x8000) === 0 && ((flags >> 11) & 15) === 0;
  if (!isQuery || bytes.readUInt16BE(4) !== 1 || bytes.readUInt16BE(6) !== 0) return undefined;
  const labels: string[] = [];
  let at = HEADER;
  for (;;) {
    const length = bytes[at];
    if (length === undefined || length > 63) return undefined;
    at++;
    if (length === 0) break;
    if (at + length > bytes.length || at + length - HEADER > MAX_NAME) return undefined;
    labels.push(bytes.toString("latin1", at, at + length));
    at += length;
  }
  if (at + 4 > bytes.length) return undefined;
  return {
    id: bytes.readUInt16BE(0),
    name: labels.join(".").toLowerCase(),
    type: bytes.readUInt16BE(at),
    class: bytes.readUInt16BE(at + 2),
    recursionDesired: (flags & 0x0100) !== 0,
    end: at + 4,
    extended: bytes.readUInt16BE(10) > 0,
  };
}

export type DnsAnswer =
  /** IPv4 addresses; none: the name exists and has no record of that type. */
  | { readonly type: "addresses"; readonly addresses: readonly number[]; readonly ttlSeconds: number }
  | { readonly type: "no-such-name" }
  | { readonly type: "refused" };

/** The answer to a query that `readDnsQuery` has read from `message`. */
export function writeDnsAnswer(message: Uint8Array, query: DnsQuery, answer: DnsAnswer): Uint8Array {
  const addresses = answer.type === "addresses" && query.class === INTERNET ? answer.addresses : [];
  const code = answer.type === "no-such-name" ? 3 : answer.type === "refused" ? 5 : 0;
  const question = Buffer.from(message.subarray(HEADER, query.end));
  const header = Buffer.alloc(HEADER);
  header.writeUInt16BE(query.id, 0);
  // Response, recursion available; authoritative, because it is our own list.
  header.writeUInt16BE(0x8480 | (query.recursionDesired ? 0x0100 : 0) | code, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(addresses.length, 6);
  header.writeUInt16BE(query.extended ? 1 : 0, 10);
  const records = addresses.map((address) => {
    const record = Buffer.alloc(16);
    record.writeUInt16BE(0xc000 | HEADER, 0); // the name of the question
    record.writeUInt16BE(DNS_TYPE.A, 2);
    record.writeUInt16BE(INTERNET, 4);
    record.writeUInt32BE(answer.type === "addresses" ? answer.ttlSeconds : 0, 6);
    record.writeUInt16BE(4, 10);
    record.writeUInt32BE(address >>> 0, 12);
    return record;
  });
  // An empty OPT record: we take messages of 1,232 bytes and know no options.
  const extension = query.extended ? [Buffer.from([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0])] : [];
  return Buffer.concat([header, question, ...records, ...extension]);
}

/** What a name gives away about tunnels: data is put into labels before a name that its owner serves. */
export function nameFigures(name: string): {
  readonly base: string;
  readonly labelBytes: number;
  readonly entropy: number;
} {
  const labels = name.split(".");
  const base = labels.slice(-2).join(".");
  const sub = labels.slice(0, -2);
  return {
    base,
    labelBytes: Math.max(0, ...sub.map((label) => label.length)),
    entropy: entropyOf(sub.join("")),
  };
}

/** Bits per character. */
function entropyOf(text: string): number {
  const counts = new Map<string, number>();
  for (const char of text) counts.set(char, (counts.get(char) ?? 0) + 1);
  let bits = 0;
  for (const count of counts.values()) bits -= (count / text.length) * Math.log2(count / text.length);
  return bits;
}
