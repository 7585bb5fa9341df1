/** What a TLS client says first: the name it wants, and how it wants to speak. RFC 8446 §4.1.2. Everything read here is hostile. */

export type TlsHello =
  | {
      readonly type: "hello";
      /** server_name, lower-case; null where the client sends none. */
      readonly serverName: string | null;
      readonly alpn: readonly string[];
      /** The real name is hidden in an encrypted part (RFC 9849), so that it cannot be compared. */
      readonly encrypted: boolean;
    }
  /** A beginning of one; more bytes are needed. */
  | { readonly type: "incomplete" }
  /** Not TLS, or not as the RFC has it. */
  | { readonly type: "other" };

const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const ALPN = 16;
const ENCRYPTED_HELLO = 0xfe0d;
/** Longest hello that is waited for; post-quantum key shares make about 2 KB. */
const MAX_HELLO = 16 * 1024;

const OTHER = { type: "other" } as const;
const INCOMPLETE = { type: "incomplete" } as const;

export function readTlsHello(bytes: Uint8Array): TlsHello {
  const message = handshakeOf(bytes);
  if (!(message instanceof Uint8Array)) return message;
  const reader = new Reader(message);
  reader.skip(2 + 32); // legacy_version, random
  reader.skip(reader.u8()); // legacy_session_id
  reader.skip(reader.u16()); // cipher_suites
  reader.skip(reader.u8()); // legacy_compression_methods
  const serverNames: string[] = [];
  let alpn: readonly string[] = [];
  let encrypted = false;
  const extensions = reader.left === 0 ? new Reader(new Uint8Array()) : reader.part(reader.u16());
  while (extensions.left > 0 && !extensions.broken) {
    const type = extensions.u16();
    const body = extensions.part(extensions.u16());
    if (type === SERVER_NAME) serverNames.push(...namesOf(body));
    else if (type === ALPN) alpn = protocolsOf(body);
    else if (type === ENCRYPTED_HELLO) encrypted = true;
    if (body.broken) return OTHER;
  }
  if (reader.broken || extensions.broken) return OTHER;
  // Of two names a server may take the other one: such a hello names nobody.
  const serverName = serverNames.length === 1 ? (serverNames[0] ?? null) : null;
  return { type: "hello", serverName, alpn, encrypted };
}

/** The body of the ClientHello, put together from as many records as it is spread over. */
function handshakeOf(bytes: Uint8Array): Uint8Array | TlsHello {
  const parts: Uint8Array[] = [];
  let gathered = 0;
  let at = 0;
  for (;;) {
    if (bytes.length - at < 5) return bytes.length > at && bytes[at] !== HANDSHAKE ? OTHER : INCOMPLETE;
    const length = (bytes[at + 3]! << 8) | bytes[at + 4]!;
    if (bytes[at] !== HANDSHAKE || bytes[at + 1] !== 3 || length === 0 || length > 16_384 + 256) return OTHER;
    const part = bytes.subarray(at + 5, at + 5 + length);
    parts.push(part);
    gathered += part.length;
    at += 5 + length;
    const start = joined(parts, gathered);
    if (start.length >= 4) {
      const size = (start[1]! << 16) | (start[2]! << 8) | start[3]!;
      if (start[0] !== CLIENT_HELLO || size > MAX_HELLO) return OTHER;
      if (start.length >= 4 + size) return start.subarray(4, 4 + size);
    }
    if (at > bytes.length) return INCOMPLETE;
  }
}

function joined(parts: readonly Uint8Array[], length: number): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function namesOf(body: Reader): string[] {
  const names: string[] = [];
  const list = body.part(body.u16());
  while (list.left > 0 && !list.broken) {
    list.u8(); // host_name is the only type there is
    names.push(list.text(list.u16()).toLowerCase().replace(/\.$/, ""));
  }
  return names;
}

function protocolsOf(body: Reader): string[] {
  const list = body.part(body.u16());
  const protocols: string[] = [];
  while (list.left > 0 && !list.broken) protocols.push(list.text(list.u8()));
  return protocols;
}

/** Reads numbers and parts; past the end it is broken and reads zeros, so that no caller can run on. */
class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;
  broken = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#take(1)[0] ?? 0;
  }

  u16(): number {
    const [high = 0, low = 0] = this.#take(2);
    return (high << 8) | low;
  }

  skip(length: number): void {
    this.#take(length);
  }

  part(length: number): Reader {
    const part = new Reader(this.#take(length));
    part.broken = this.broken;
    return part;
  }

  text(length: number): string {
    return Buffer.from(this.#take(length)).toString("latin1");
  }

  #take(length: number): Uint8Array {
    if (length > this.left) {
      this.broken = true;
      this.#at = this.#bytes.length;
      return new Uint8Array();
    }
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}
