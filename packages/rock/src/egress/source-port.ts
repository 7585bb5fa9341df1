import { closeSync } from "node:fs";
import { SystemCallError } from "../host/native.ts";
import {
  AF_INET,
  AF_NETLINK,
  type NetNamespace,
  openSocket,
  receiveBytes,
  SOCK_RAW,
  sendBytes,
  within,
} from "./native-net.ts";
import { attribute, u32be } from "./netlink.ts";

/**
 * From which port a turned connection was really made. All of a sandbox's connections end at one door, so that two of them to different
 * places may differ in nothing any more; the kernel then gives one of them another source port, and nobody in the sandbox holds a socket with
 * that. Asked of connection tracking (ctnetlink).
 */

export interface Seen {
  readonly doorIp: number;
  readonly doorPort: number;
  readonly sandboxIp: number;
  /** As the door sees it. */
  readonly port: number;
}

const NETLINK_NETFILTER = 12;
const CTNETLINK = 1 << 8;
const [CT_NEW, CT_GET] = [CTNETLINK | 0, CTNETLINK | 1];
const REQUEST = 1;
const NESTED = 0x8000;
const [TUPLE_ORIG, TUPLE_REPLY] = [1, 2];
const [TUPLE_IP, TUPLE_PROTO] = [1, 2];
const [IP_SRC, IP_DST] = [1, 2];
const [PROTO_NUM, PROTO_SRC_PORT, PROTO_DST_PORT] = [1, 2, 3];
const IPPROTO_TCP = 6;
/** Of a message: netlink's header and netfilter's. */
const HEADERS = 20;

export class SourcePorts implements Disposable {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(4096);
  #isOpen = true;

  /** The namespace in which connections are turned. */
  constructor(namespace: NetNamespace) {
    this.#fd = within(namespace, () => openSocket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER));
  }

  /** The port that the door sees, where the kernel does not know better. */
  of(seen: Seen): number {
    if (!this.#isOpen) return seen.port;
    try {
      sendBytes(this.#fd, requestFor(seen));
      const answer = receiveBytes(this.#fd, this.#buffer);
      return (answer && originalPort(Buffer.from(answer))) ?? seen.port;
    } catch (error) {
      if (error instanceof SystemCallError) return seen.port;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    if (this.#isOpen) closeSync(this.#fd);
    this.#isOpen = false;
  }
}

function requestFor({ doorIp, doorPort, sandboxIp, port }: Seen): Buffer {
  const addresses = [attribute(IP_SRC!, u32be(doorIp)), attribute(IP_DST!, u32be(sandboxIp))];
  const ports = [
    attribute(PROTO_NUM!, Buffer.from([IPPROTO_TCP])),
    attribute(PROTO_SRC_PORT!, u16be(doorPort)),
    attribute(PROTO_DST_PORT!, u16be(port)),
  ];
  const tuple = Buffer.concat([
    attribute(TUPLE_IP! | NESTED, Buffer.concat(addresses)),
    attribute(TUPLE_PROTO! | NESTED, Buffer.concat(ports)),
  ]);
  const body = attribute(TUPLE_REPLY! | NESTED, tuple);
  const head = Buffer.alloc(HEADERS);
  head.writeUInt32LE(HEADERS + body.length, 0);
  head.writeUInt16LE(CT_GET!, 4);
  head.writeUInt16LE(REQUEST, 6);
  head[16] = AF_INET;
  return Buffer.concat([head, body]);
}

function originalPort(message: Buffer): number | undefined {
  if (message.length < HEADERS || message.readUInt16LE(4) !== CT_NEW) return undefined;
  const tuple = find(message.subarray(HEADERS), TUPLE_ORIG!);
  const protocol = tuple && find(tuple, TUPLE_PROTO!);
  return (protocol && find(protocol, PROTO_SRC_PORT!))?.readUInt16BE(0);
}

function find(bytes: Buffer, type: number): Buffer | undefined {
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length) return undefined;
    if ((bytes.readUInt16LE(at + 2) & 0x3fff) === type) return bytes.subarray(at + 4, at + length);
    at += (length + 3) & ~3;
  }
  return undefined;
}

function u16be(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
