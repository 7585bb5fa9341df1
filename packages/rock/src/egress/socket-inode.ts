import { closeSync } from "node:fs";
import koffi from "koffi";
import { SystemCallError } from "../host/native.ts";
import {
  AF_INET,
  AF_NETLINK,
  namespaceOf,
  openSocket,
  receiveBytes,
  SOCK_RAW,
  sendBytes,
  within,
} from "./native-net.ts";

/**
 * The inode of one connected socket, asked of the kernel by its four numbers (sock_diag(7)). The table in /proc/net/tcp says the same, but
 * to read it the kernel walks all connections that the host could have, which takes milliseconds however few there are.
 */

export interface Connection {
  readonly localIp: number;
  readonly localPort: number;
  readonly remoteIp: number;
  readonly remotePort: number;
}

const NETLINK_SOCK_DIAG = 4;
const NLMSG_ERROR = 2;
const SOCK_DIAG_BY_FAMILY = 20;
const REQUEST = 1;
const IPPROTO_TCP = 6;
/** Of the message after the netlink header: family and states, socket id, then expires, queues, uid, inode. */
const INODE_AT = 16 + 68;

/** In the network of a process. Null where there is no such connection; undefined where the kernel cannot be asked. */
export function inodeOfConnection(pid: number, connection: Connection): string | null | undefined {
  let fd: number | undefined;
  try {
    using namespace = namespaceOf(pid);
    fd = within(namespace, () => openSocket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
    sendBytes(fd, requestFor(connection));
    const answer = receiveBytes(fd, Buffer.alloc(512));
    if (answer === undefined) return undefined;
    const reply = Buffer.from(answer);
    const type = reply.readUInt16LE(4);
    if (type === NLMSG_ERROR && -reply.readInt32LE(16) === koffi.os.errno.ENOENT) return null;
    if (type !== SOCK_DIAG_BY_FAMILY || reply.length < INODE_AT + 4) return undefined;
    const inode = reply.readUInt32LE(INODE_AT);
    return inode === 0 ? null : String(inode);
  } catch (error) {
    // The sandbox may have ended meanwhile, or the kernel was built without it.
    if (error instanceof SystemCallError || (error as NodeJS.ErrnoException).code === "ENOENT")
      return undefined;
    throw error;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function requestFor({ localIp, localPort, remoteIp, remotePort }: Connection): Buffer {
  const message = Buffer.alloc(16 + 56);
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(SOCK_DIAG_BY_FAMILY, 4);
  message.writeUInt16LE(REQUEST, 6);
  message[16] = AF_INET;
  message[17] = IPPROTO_TCP;
  message.writeUInt32LE(0xffffffff, 20); // in any state
  message.writeUInt16BE(localPort, 24);
  message.writeUInt16BE(remotePort, 26);
  message.writeUInt32BE(localIp >>> 0, 28);
  message.writeUInt32BE(remoteIp >>> 0, 44);
  message.fill(0xff, 64, 72); // whatever its cookie
  return message;
}
