import { closeSync } from "node:fs";
import { SystemCallError } from "../host/native.ts";
import {
  AF_NETLINK,
  type NetNamespace,
  openSocket,
  receiveBytes,
  SOCK_RAW,
  sendBytes,
  setOption,
  within,
} from "./native-net.ts";
import { attribute } from "./netlink.ts";

/** Packets that the filter logs (NFLOG over netlink, nfnetlink_log): refused ones, with the rule and the interface they came by. */

export interface LoggedPacket {
  /** The rule's own word: `deny`, `scan`. */
  readonly prefix: string;
  /** Number of the interface in the namespace. */
  readonly interfaceIndex: number;
  readonly protocol: "tcp" | "udp" | "icmp" | "other";
  readonly v6: boolean;
  /** IPv4 only. */
  readonly to: number | undefined;
  readonly fromPort: number | undefined;
  readonly toPort: number | undefined;
}

const NETLINK_NETFILTER = 12;
const [REQUEST, ACK] = [0x1, 0x4];
const ULOG = 4 << 8;
const [PACKET, CONFIG] = [ULOG | 0, ULOG | 1];
const [CFG_CMD, CFG_MODE] = [1, 2];
const [BIND, COPY_PACKET] = [1, 2];
const [INDEV, PAYLOAD, PREFIX] = [4, 9, 10];
/** Of each packet: enough for the addresses and ports of any header. */
const COPY_BYTES = 128;
const [SOL_SOCKET, SO_RCVBUFFORCE] = [1, 33];
const RECEIVE_BYTES = 4 * 2 ** 20;

/** Reads one group of one namespace. The kernel cannot wake us here, so that it is asked every few milliseconds. */
export class PacketLog implements Disposable {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(64 * 1024);
  readonly #timer: NodeJS.Timeout;
  readonly #onPacket: (packet: LoggedPacket) => void;
  /** Messages that the kernel threw away because nobody fetched them in time: a number of times, not of packets. */
  overflows = 0;

  constructor(
    namespace: NetNamespace,
    group: number,
    onPacket: (packet: LoggedPacket) => void,
    everyMs = 10,
  ) {
    this.#onPacket = onPacket;
    this.#fd = within(namespace, () => openSocket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER));
    try {
      setOption(this.#fd, SOL_SOCKET!, SO_RCVBUFFORCE!, RECEIVE_BYTES);
    } catch {
      // Without the right to a larger buffer the usual one has to do; what it loses is counted.
    }
    this.#configure(group, attribute(CFG_CMD!, Buffer.from([BIND!])));
    const mode = Buffer.alloc(6);
    mode.writeUInt32BE(COPY_BYTES, 0);
    mode[4] = COPY_PACKET!;
    this.#configure(group, attribute(CFG_MODE!, mode));
    this.#timer = setInterval(() => this.drain(), everyMs);
    this.#timer.unref();
  }

  #configure(group: number, body: Buffer): void {
    const head = Buffer.alloc(20);
    head.writeUInt32LE(20 + body.length, 0);
    head.writeUInt16LE(CONFIG!, 4);
    head.writeUInt16LE(REQUEST! | ACK!, 6);
    head.writeUInt16BE(group, 18);
    sendBytes(this.#fd, Buffer.concat([head, body]));
    const answer = receiveBytes(this.#fd, this.#buffer);
    const code = answer === undefined ? 0 : -Buffer.from(answer).readInt32LE(16);
    if (code !== 0) throw new SystemCallError(`packet log, group ${group}`, code);
  }

  /** Tells of what the kernel has logged until now. */
  drain(): void {
    for (let round = 0; round < 64; round++) {
      const message = this.#receive();
      if (message === undefined) return;
      for (const packet of packetsOf(message)) this.#onPacket(packet);
    }
  }

  #receive(): Buffer | undefined {
    try {
      const bytes = receiveBytes(this.#fd, this.#buffer);
      return bytes === undefined ? undefined : Buffer.from(bytes);
    } catch (error) {
      if (!(error instanceof SystemCallError) || error.code !== "ENOBUFS") throw error;
      this.overflows++;
      return undefined;
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    closeSync(this.#fd);
  }
}

function* packetsOf(bytes: Buffer): Generator<LoggedPacket> {
  for (let at = 0; at + 20 <= bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    if (length < 20 || at + length > bytes.length) return;
    if (bytes.readUInt16LE(at + 4) === PACKET) {
      const packet = packetOf(bytes.subarray(at + 20, at + length));
      if (packet !== undefined) yield packet;
    }
    at += (length + 3) & ~3;
  }
}

function packetOf(body: Buffer): LoggedPacket | undefined {
  let [prefix, index]: [string, number] = ["", 0];
  let payload: Buffer | undefined;
  for (let at = 0; at + 4 <= body.length; ) {
    const length = body.readUInt16LE(at);
    if (length < 4 || at + length > body.length) break;
    const value = body.subarray(at + 4, at + length);
    const type = body.readUInt16LE(at + 2) & 0x3fff;
    if (type === PREFIX) prefix = value.toString("latin1").replace(/\0.*$/s, "").trim();
    else if (type === INDEV) index = value.readUInt32BE(0);
    else if (type === PAYLOAD) payload = value;
    at += (length + 3) & ~3;
  }
  return payload === undefined ? undefined : { prefix, interfaceIndex: index, ...headersOf(payload) };
}

const PROTOCOLS: Readonly<Record<number, LoggedPacket["protocol"]>> = {
  1: "icmp",
  6: "tcp",
  17: "udp",
  58: "icmp",
};

function headersOf(packet: Buffer): Omit<LoggedPacket, "prefix" | "interfaceIndex"> {
  const v6 = packet.length > 0 && packet[0]! >> 4 === 6;
  const nothing = { to: undefined, fromPort: undefined, toPort: undefined };
  if (v6) return { protocol: PROTOCOLS[packet[6] ?? 0] ?? "other", v6, ...nothing };
  if (packet.length < 20) return { protocol: "other", v6, ...nothing };
  const protocol = PROTOCOLS[packet[9]!] ?? "other";
  const ports = (packet[0]! & 15) * 4;
  const hasPorts = (protocol === "tcp" || protocol === "udp") && packet.length >= ports + 4;
  return {
    protocol,
    v6,
    to: packet.readUInt32BE(16),
    fromPort: hasPorts ? packet.readUInt16BE(ports) : undefined,
    toPort: hasPorts ? packet.readUInt16BE(ports + 2) : undefined,
  };
}
