import { closeSync, constants, openSync, readSync } from "node:fs";
import {
  AF_NETLINK,
  bindSocket,
  openSocket,
  receiveBytes,
  SOCK_RAW,
  setOption,
} from "../egress/native-net.ts";
import { type AuditRecord, auditOfLog, auditRecord } from "./audit-record.ts";
import { SystemCallError, seekEnd } from "./native.ts";

/** Where the kernel's audit can be read without being its daemon. */
export interface AuditStream extends Disposable {
  readonly source: "audit" | "kernel-log";
  /** Undefined where there is none now. */
  next(): AuditRecord | undefined;
}

const NETLINK_AUDIT = 9;
const AUDIT_NLGRP_READLOG = 1;
const [SOL_SOCKET, SO_RCVBUFFORCE] = [1, 33] as const;
/** Several thousand records, so that a driver that is busy for a moment loses none. */
const RECEIVE_BYTES = 8 * 2 ** 20;
/** The kernel's MAX_AUDIT_MESSAGE_LENGTH, and a head. */
const MESSAGE_BYTES = 8_970 + 16;

/**
 * Every record, whether auditd runs or not and however many there are: the kernel hands them to whoever listens in its first network
 * namespace. Throws a SystemCallError without the right to it (CAP_AUDIT_READ); in another namespace nothing comes.
 */
export class AuditSocket implements AuditStream {
  readonly source = "audit";
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(MESSAGE_BYTES);

  constructor() {
    this.#fd = openSocket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT);
    try {
      const address = Buffer.alloc(12);
      address.writeUInt16LE(AF_NETLINK, 0);
      address.writeUInt32LE(1 << (AUDIT_NLGRP_READLOG - 1), 8);
      bindSocket(this.#fd, address);
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
    try {
      setOption(this.#fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES);
    } catch {
      // Without the right to a larger buffer the usual one has to do; what it loses is counted.
    }
  }

  next(): AuditRecord | undefined {
    for (;;) {
      const length = this.#receive();
      if (length === undefined) return undefined;
      // The length in a message's head is not the message's.
      const text = this.#buffer.toString("latin1", 16, length).replace(/\0+$/, "");
      const record = length < 16 ? undefined : auditRecord(this.#buffer.readUInt16LE(4), text);
      if (record !== undefined) return record;
    }
  }

  #receive(): number | undefined {
    try {
      return receiveBytes(this.#fd, this.#buffer)?.length;
    } catch (error) {
      // Records were thrown away because nobody fetched them in time: their numbers will be missing.
      if (error instanceof SystemCallError && error.code === "ENOBUFS") return 0;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

const KMSG = "/dev/kmsg";
/** The kernel cuts records there. */
const LINE_BYTES = 8192;

/**
 * The kernel's log: ten messages in five seconds, of all that are limited together, and nothing while auditd takes the records. Throws where it
 * cannot be read.
 */
export class KernelLog implements AuditStream {
  readonly source = "kernel-log";
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(LINE_BYTES);

  /** `from`: the oldest line that it still has, or what comes from now on. */
  constructor(from: "oldest" | "now" = "now") {
    this.#fd = openSync(KMSG, constants.O_RDONLY | constants.O_NONBLOCK);
    if (from === "now") seekEnd(this.#fd);
  }

  next(): AuditRecord | undefined {
    for (;;) {
      const line = this.#line();
      if (line === undefined) return undefined;
      const record = auditOfLog(line);
      if (record !== undefined) return record;
    }
  }

  #line(): string | undefined {
    try {
      return this.#buffer.toString("latin1", 0, readSync(this.#fd, this.#buffer));
    } catch (error) {
      // EPIPE: records were overwritten before they were read; the next read goes on with the oldest there is.
      return (error as NodeJS.ErrnoException).code === "EPIPE" ? "" : undefined;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
