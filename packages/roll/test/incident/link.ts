import { closeSync, readFileSync } from "node:fs";
import {
  AF_INET,
  bindSocket,
  inetAddress,
  listenOn,
  type NetNamespace,
  openSocket,
  receiveBytes,
  SOCK_DGRAM,
  SOCK_RAW,
  SOCK_STREAM,
  within,
} from "../../../rock/src/egress/native-net.ts";
import { interfaceIndex, Netlink } from "../../../rock/src/egress/netlink.ts";

/** Cables between namespaces that a test made itself, sockets in them, and a count of every frame that passes. */

export const ip = (text: string): number =>
  text.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);

/** One cable of two addresses, the first here, the other there, and there the way to everything. */
export function plug(
  here: NetNamespace,
  there: NetNamespace,
  name: string,
  addresses: readonly [here: string, there: string],
): void {
  using ours = new Netlink(here);
  using theirs = new Netlink(there);
  ours.addCable(name, { name: "eth0", namespace: there });
  const [near, far] = [interfaceIndex(here, name), interfaceIndex(there, "eth0")];
  ours.addAddress(near, ip(addresses[0]), 31);
  theirs.addAddress(far, ip(addresses[1]), 31);
  ours.up(near);
  theirs.up(far);
  theirs.addDefaultRoute(ip(addresses[0]));
}

export function addAddresses(namespace: NetNamespace, addresses: readonly string[]): void {
  using netlink = new Netlink(namespace);
  netlink.up(1);
  for (const address of addresses) netlink.addAddress(1, ip(address), 32);
}

/** For `server.listen({ fd })`. */
export function listeningSocket(namespace: NetNamespace, address: string, port: number): number {
  return within(namespace, () => {
    const fd = openSocket(AF_INET, SOCK_STREAM, 0);
    bindSocket(fd, inetAddress(ip(address), port));
    listenOn(fd, 4096);
    return fd;
  });
}

/** For `socket.bind({ fd })`. */
export function datagramSocket(namespace: NetNamespace, address: string, port: number): number {
  return within(namespace, () => {
    const fd = openSocket(AF_INET, SOCK_DGRAM, 0);
    bindSocket(fd, inetAddress(ip(address), port));
    return fd;
  });
}

export interface FrameCounter extends Disposable {
  /** Every frame that ever came in over the cable, whatever it was, as the kernel counts them. */
  count(): number;
  /** The packets among them, and those that answered: without what kernels ask each other about addresses they know already. */
  packets(): number;
  /** What the last of them were, for the message of a test that fails. */
  readonly lately: readonly string[];
}

const AF_PACKET = 17;
const ALL_PROTOCOLS = 0x0300; // ETH_P_ALL, in network order
const ARP = 0x0806;
const KEPT = 40;

export function countFrames(namespace: NetNamespace, name: string): FrameCounter {
  const fd = within(namespace, () => openSocket(AF_PACKET, SOCK_RAW, ALL_PROTOCOLS));
  const place = Buffer.alloc(20);
  place.writeUInt16LE(AF_PACKET, 0);
  place.writeUInt16LE(ALL_PROTOCOLS, 2);
  place.writeInt32LE(interfaceIndex(namespace, name), 4);
  bindSocket(fd, place);
  const lately: string[] = [];
  const buffer = Buffer.alloc(65_536);
  let packets = 0;
  const drain = (): void => {
    for (let bytes = receiveBytes(fd, buffer); bytes !== undefined; bytes = receiveBytes(fd, buffer)) {
      const frame = Buffer.from(bytes);
      if (frame.readUInt16BE(12) !== ARP) packets++;
      if (lately.push(frameText(frame)) > KEPT) lately.shift();
    }
  };
  const timer = setInterval(drain, 20);
  return {
    count: () => receivedFrames(namespace, name),
    packets: () => {
      drain();
      return packets;
    },
    get lately() {
      drain();
      return lately;
    },
    [Symbol.dispose]: () => {
      clearInterval(timer);
      closeSync(fd);
    },
  };
}

function receivedFrames(namespace: NetNamespace, name: string): number {
  const table = within(namespace, () => readFileSync("/proc/thread-self/net/dev", "utf8"));
  const line = table.split("\n").find((one) => one.trim().startsWith(`${name}:`));
  if (line === undefined) throw new Error(`there is no interface ${name}`);
  return Number(line.split(":")[1]!.trim().split(/\s+/)[1]);
}

function frameText(frame: Buffer): string {
  if (frame.length < 34 || frame.readUInt16BE(12) !== 0x0800)
    return `type ${frame.readUInt16BE(12).toString(16)}, ${frame.length} bytes`;
  const address = (at: number): string => frame.subarray(at, at + 4).join(".");
  const body = 14 + (frame[14]! & 15) * 4;
  const ports = frame.length >= body + 4 ? [frame.readUInt16BE(body), frame.readUInt16BE(body + 2)] : [];
  return `protocol ${frame[23]}: ${address(26)}:${ports[0]} → ${address(30)}:${ports[1]}, ${frame.length} bytes`;
}
