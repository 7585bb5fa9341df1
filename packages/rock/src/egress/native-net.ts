import { closeSync, openSync } from "node:fs";
import koffi from "koffi";
import { SystemCallError } from "../host/native.ts";

/**
 * Network system calls that Node does not offer: entering a network namespace, sockets that are made inside one, netlink. A socket belongs
 * for its life to the namespace that it was made in, so the process visits a namespace only to make sockets, and all other work stays
 * where it was.
 */

const CLONE_NEWNET = 0x40000000;

export const AF_INET = 2;
export const AF_NETLINK = 16;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
const SOCK_FLAGS = 0o2004000; // SOCK_NONBLOCK | SOCK_CLOEXEC
const MSG_DONTWAIT = 0x40;

type Send = ((fd: number, data: Uint8Array, length: number, flags: number) => number) & {
  async(fd: number, data: Uint8Array, length: number, flags: number, done: SendDone): void;
};
type SendDone = (error: Error | null, sent: number | bigint) => void;

interface Net {
  setns(fd: number, type: number): number;
  unshare(flags: number): number;
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array, length: number): number;
  listen(fd: number, backlog: number): number;
  readonly send: Send;
  recv(fd: number, data: Uint8Array, length: number, flags: number): number;
  setsockopt(fd: number, level: number, option: number, value: Uint8Array, length: number): number;
  getsockopt(fd: number, level: number, option: number, value: Uint8Array, length: Uint32Array): number;
}

let loaded: Net | undefined;

function net(): Net {
  if (loaded === undefined) {
    const libc = koffi.load("libc.so.6");
    loaded = {
      setns: libc.func("int setns(int fd, int type)"),
      unshare: libc.func("int unshare(int flags)"),
      socket: libc.func("int socket(int domain, int type, int protocol)"),
      bind: libc.func("int bind(int fd, const uint8_t *address, uint32_t length)"),
      listen: libc.func("int listen(int fd, int backlog)"),
      send: libc.func(
        "int64_t send(int fd, const uint8_t *data, uint64_t length, int flags)",
      ) as unknown as Send,
      recv: libc.func("int64_t recv(int fd, _Out_ uint8_t *data, uint64_t length, int flags)"),
      setsockopt: libc.func(
        "int setsockopt(int fd, int level, int option, const uint8_t *value, uint32_t length)",
      ),
      getsockopt: libc.func(
        "int getsockopt(int fd, int level, int option, _Out_ uint8_t *value, _Inout_ uint32_t *length)",
      ),
    };
  }
  return loaded;
}

function checked(call: string, result: number): number {
  if (result < 0) throw new SystemCallError(call, koffi.errno());
  return result;
}

/** An open network namespace: it lives as long as the descriptor, a process or a socket does. */
export interface NetNamespace extends Disposable {
  readonly fd: number;
}

function opened(path: string): NetNamespace {
  const fd = openSync(path, "r");
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}

const here = (): NetNamespace => opened("/proc/thread-self/ns/net");

export const namespaceOf = (pid: number): NetNamespace => opened(`/proc/${pid}/ns/net`);

/** A new namespace, empty but for a loopback that is down. Nothing on the host names it, so that it cannot be left behind. */
export function newNamespace(): NetNamespace {
  using home = here();
  checked("unshare", net().unshare(CLONE_NEWNET));
  try {
    return here();
  } finally {
    returnTo(home);
  }
}

/**
 * Runs a synchronous piece of work inside a namespace. It must start nothing asynchronous: threads that are born meanwhile would
 * stay there for ever.
 */
export function within<T>(namespace: NetNamespace, work: () => T): T {
  using home = here();
  checked("setns", net().setns(namespace.fd, CLONE_NEWNET));
  try {
    return work();
  } finally {
    returnTo(home);
  }
}

/** A process that cannot come home would do everything else in the wrong network: it must not go on. */
function returnTo(home: NetNamespace): void {
  if (net().setns(home.fd, CLONE_NEWNET) !== 0) {
    process.stderr.write(`cannot leave a network namespace: errno ${koffi.errno()}\n`);
    process.abort();
  }
}

export function openSocket(domain: number, type: number, protocol: number): number {
  return checked("socket", net().socket(domain, type | SOCK_FLAGS, protocol));
}

/** sockaddr_in of an IPv4 address as a number. */
export function inetAddress(ip: number, port: number): Uint8Array {
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(port, 2);
  address.writeUInt32BE(ip >>> 0, 4);
  return address;
}

export function bindSocket(fd: number, address: Uint8Array): void {
  checked("bind", net().bind(fd, address, address.length));
}

export function listenOn(fd: number, backlog: number): void {
  checked("listen", net().listen(fd, backlog));
}

export function setOption(fd: number, level: number, option: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  checked("setsockopt", net().setsockopt(fd, level, option, bytes, 4));
}

export function sendBytes(fd: number, data: Uint8Array): void {
  checked("send", net().send(fd, data, data.length, 0));
}

/** In another thread, for what the kernel takes its time over. The socket is of the namespace that it was made in, whoever uses it. */
export function sendBytesAside(fd: number, data: Uint8Array): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  net().send.async(fd, data, data.length, 0, (error, sent) => {
    if (error !== null) reject(error);
    else if (Number(sent) < 0) reject(new Error("a message to the kernel was not taken"));
    else resolve();
  });
  return promise;
}

/** Undefined where nothing has come. Throws a SystemCallError, `ENOBUFS` where messages were lost. */
export function receiveBytes(fd: number, buffer: Uint8Array): Uint8Array | undefined {
  const length = Number(net().recv(fd, buffer, buffer.length, MSG_DONTWAIT));
  if (length >= 0) return buffer.subarray(0, length);
  const { EAGAIN, EINTR } = koffi.os.errno;
  const errno = koffi.errno();
  if (errno === EAGAIN || errno === EINTR) return undefined;
  throw new SystemCallError("recv", errno);
}

/** Where a connection that a packet filter redirected wanted to go. Undefined where the filter no longer knows it. */
export function originalDestination(fd: number): { readonly ip: number; readonly port: number } | undefined {
  const [IPPROTO_IP, SO_ORIGINAL_DST] = [0, 80];
  const address = Buffer.alloc(16);
  if (net().getsockopt(fd, IPPROTO_IP, SO_ORIGINAL_DST, address, new Uint32Array([16])) !== 0)
    return undefined;
  return { ip: address.readUInt32BE(4), port: address.readUInt16BE(2) };
}

export const ipText = (ip: number): string => [24, 16, 8, 0].map((shift) => (ip >>> shift) & 255).join(".");
