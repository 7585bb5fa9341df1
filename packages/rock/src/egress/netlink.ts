import { closeSync } from "node:fs";
import koffi from "koffi";
import { SystemCallError } from "../host/native.ts";
import {
  AF_INET,
  AF_NETLINK,
  type NetNamespace,
  openSocket,
  receiveBytes,
  SOCK_RAW,
  sendBytes,
  sendBytesAside,
  within,
} from "./native-net.ts";

/**
 * Interfaces, addresses and routes by rtnetlink (rtnetlink(7)), in a fraction of a millisecond each; a spawned ip(8) takes 5 to 10 and blocks
 * the event loop. Requests are answered at once by the kernel, so that all of it is synchronous.
 */

const NETLINK_ROUTE = 0;
const [NLMSG_ERROR, RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_NEWROUTE] = [2, 16, 17, 20, 24];
const [REQUEST, ACK, EXCL, CREATE] = [0x1, 0x4, 0x200, 0x400];
const [IFLA_IFNAME, IFLA_LINKINFO, IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER, IFLA_NET_NS_FD] = [
  3, 18, 1, 2, 1, 28,
];
const [IFA_ADDRESS, IFA_LOCAL, RTA_GATEWAY] = [1, 2, 5];
const IFF_UP = 1;

/** One conversation with the kernel about one namespace. Owns a socket that was made there. */
export class Netlink implements Disposable {
  readonly #fd: number;
  #sequence = 0;

  constructor(namespace: NetNamespace) {
    this.#fd = within(namespace, () => openSocket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
  }

  /** A cable: one end here, the other in another namespace. Goes with either namespace. */
  addCable(name: string, peer: { readonly name: string; readonly namespace: NetNamespace }): void {
    const namespace = u32(peer.namespace.fd);
    const other = Buffer.concat([
      interfaceMessage(0, 0, 0),
      attribute(IFLA_IFNAME!, text(peer.name)),
      attribute(IFLA_NET_NS_FD!, namespace),
    ]);
    const info = [
      attribute(IFLA_INFO_KIND!, text("veth")),
      attribute(IFLA_INFO_DATA!, attribute(VETH_INFO_PEER!, other)),
    ];
    const link = [attribute(IFLA_IFNAME!, text(name)), attribute(IFLA_LINKINFO!, Buffer.concat(info))];
    this.#ask("add cable", RTM_NEWLINK!, CREATE! | EXCL!, [interfaceMessage(0, 0, 0), ...link]);
  }

  up(index: number): void {
    this.#ask("set link up", RTM_NEWLINK!, 0, [interfaceMessage(index, IFF_UP, IFF_UP)]);
  }

  remove(index: number): void {
    this.#ask("remove link", RTM_DELLINK!, 0, [interfaceMessage(index, 0, 0)]);
  }

  /** The same beside the event loop: the kernel waits for all its processors, 10 to 30 ms. Nothing else may be asked meanwhile. */
  async removeAside(index: number): Promise<void> {
    const request = this.#request(RTM_DELLINK!, 0, [interfaceMessage(index, 0, 0)]);
    await sendBytesAside(this.#fd, request);
    this.#answered("remove link");
  }

  addAddress(index: number, ip: number, prefix: number): void {
    const head = Buffer.from([AF_INET, prefix, 0, 0, 0, 0, 0, 0]);
    head.writeUInt32LE(index, 4);
    const address = u32be(ip);
    this.#ask("add address", RTM_NEWADDR!, CREATE! | EXCL!, [
      head,
      attribute(IFA_LOCAL!, address),
      attribute(IFA_ADDRESS!, address),
    ]);
  }

  addDefaultRoute(gateway: number): void {
    const [MAIN, BOOT, UNIVERSE, UNICAST] = [254, 3, 0, 1];
    const head = Buffer.from([AF_INET, 0, 0, 0, MAIN!, BOOT!, UNIVERSE!, UNICAST!, 0, 0, 0, 0]);
    this.#ask("add route", RTM_NEWROUTE!, CREATE! | EXCL!, [head, attribute(RTA_GATEWAY!, u32be(gateway))]);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #ask(what: string, type: number, flags: number, parts: readonly Buffer[]): void {
    sendBytes(this.#fd, this.#request(type, flags, parts));
    this.#answered(what);
  }

  #request(type: number, flags: number, parts: readonly Buffer[]): Buffer {
    const payload = Buffer.concat(parts);
    const header = Buffer.alloc(16);
    header.writeUInt32LE(16 + payload.length, 0);
    header.writeUInt16LE(type, 4);
    header.writeUInt16LE(REQUEST! | ACK! | flags, 6);
    header.writeUInt32LE(++this.#sequence, 8);
    return Buffer.concat([header, payload]);
  }

  #answered(what: string): void {
    const answer = receiveBytes(this.#fd, Buffer.alloc(8192));
    if (answer === undefined || answer.length < 20) throw new Error(`${what}: the kernel did not answer`);
    const reply = Buffer.from(answer);
    const code = reply.readUInt16LE(4) === NLMSG_ERROR ? -reply.readInt32LE(16) : 0;
    if (code !== 0) throw new SystemCallError(what, code);
  }
}

let nameToIndex: ((name: string) => number) | undefined;

/** Number of an interface in a namespace. Throws a SystemCallError. */
export function interfaceIndex(namespace: NetNamespace, name: string): number {
  nameToIndex ??= koffi.load("libc.so.6").func("unsigned int if_nametoindex(const char *name)");
  const find = nameToIndex;
  return within(namespace, () => {
    const index = find(name);
    if (index === 0) throw new SystemCallError(`interface ${name}`, koffi.errno());
    return index;
  });
}

function interfaceMessage(index: number, flags: number, change: number): Buffer {
  const message = Buffer.alloc(16);
  message.writeInt32LE(index, 4);
  message.writeUInt32LE(flags, 8);
  message.writeUInt32LE(change, 12);
  return message;
}

/** Length, type, value, padded to four bytes. */
export function attribute(type: number, value: Uint8Array): Buffer {
  const bytes = Buffer.alloc((4 + value.length + 3) & ~3);
  bytes.writeUInt16LE(4 + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, 4);
  return bytes;
}

const text = (value: string): Buffer => Buffer.from(`${value}\0`);

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** As numbers stand in addresses on the wire. */
export function u32be(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}
