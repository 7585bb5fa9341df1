/**
 * The smallest PID 1 there can be: it says that it is there, and when somebody answers, becomes the program that its arguments name. A
 * perl that only waits has 440 KiB of memory of its own and 50 of page tables, two fifths of all that an idle sandbox takes; this has a
 * tenth. Written as an ELF program of one page, because nothing that is sure to be installed waits in less.
 */

/** What it says: the frame of control.ts that holds "ready". */
const READY = Buffer.from("\0\0\0\x09\0\0\0\x05ready", "latin1");

/** x86-64. System calls take their number in eax, their arguments in rdi, rsi, rdx. */
const X64 = [
  "b8 01 00 00 00", //              mov eax, 1          write(
  "89 c7", //                       mov edi, eax          stdout,
  "48 8d 35 58 00 00 00", //        lea rsi, [READY]      READY,
  "ba 0d 00 00 00", //              mov edx, 13           13)
  "0f 05", //                       syscall
  "48 b8 00 00 00 00 01 00 00 00", // mov rax, 1 << 32    a pollfd: stdin, POLLIN
  "50", //                          push rax
  "b8 07 00 00 00", //       wait:  mov eax, 7          poll(
  "48 89 e7", //                    mov rdi, rsp          the pollfd,
  "be 01 00 00 00", //              mov esi, 1            1,
  "ba ff ff ff ff", //              mov edx, -1           for ever)
  "0f 05", //                       syscall
  "85 c0", //                       test eax, eax
  "7e e8", //                       jle wait            interrupted
  "58", //                          pop rax
  "48 0f ba e0 34", //              bt rax, 52          POLLHUP: the driver is gone
  "72 1a", //                       jc gone
  "48 8b 0c 24", //                 mov rcx, [rsp]      the number of arguments
  "48 8b 7c 24 10", //              mov rdi, [rsp+16]   execve(argv[1],
  "48 8d 74 24 10", //              lea rsi, [rsp+16]     argv + 1,
  "48 8d 54 cc 10", //              lea rdx, [rsp+rcx*8+16] environ)
  "b8 3b 00 00 00", //              mov eax, 59
  "0f 05", //                       syscall
  "bf 7f 00 00 00", //       gone:  mov edi, 127        exit_group(127)
  "b8 e7 00 00 00", //              mov eax, 231
  "0f 05", //                       syscall
];

const MACHINES: Readonly<Record<string, { readonly elf: number; readonly code: readonly string[] }>> = {
  x64: { elf: 62, code: X64 },
};

const [HEADER, SEGMENT] = [64, 56];
const LOADED_AT = 0x400000;
const [PT_LOAD, PT_GNU_STACK] = [1, 0x6474e551];
const [READ_EXECUTE, READ_WRITE] = [5, 6];

/** Undefined for a machine that it has not been written for: there perl waits. */
export function waiterProgram(arch: string = process.arch): Buffer | undefined {
  const machine = MACHINES[arch];
  if (machine === undefined) return undefined;
  const code = Buffer.concat([Buffer.from(machine.code.join("").replaceAll(" ", ""), "hex"), READY]);
  const start = HEADER + 2 * SEGMENT;
  const size = start + code.length;
  return Buffer.concat([
    header(machine.elf, LOADED_AT + start),
    segment(PT_LOAD, READ_EXECUTE, LOADED_AT, size),
    segment(PT_GNU_STACK, READ_WRITE, 0, 0),
    code,
  ]);
}

function header(machine: number, entry: number): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.write("\x7fELF\x02\x01\x01", "latin1"); // 64 bits, little endian
  bytes.writeUInt16LE(2, 16); // a program that is loaded where it says
  bytes.writeUInt16LE(machine, 18);
  bytes.writeUInt32LE(1, 20);
  bytes.writeBigUInt64LE(BigInt(entry), 24);
  bytes.writeBigUInt64LE(BigInt(HEADER), 32); // where segments are listed
  bytes.writeUInt16LE(HEADER, 52);
  bytes.writeUInt16LE(SEGMENT, 54);
  bytes.writeUInt16LE(2, 56);
  return bytes;
}

function segment(type: number, access: number, address: number, size: number): Buffer {
  const bytes = Buffer.alloc(SEGMENT);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(access, 4);
  bytes.writeBigUInt64LE(BigInt(address), 16);
  bytes.writeBigUInt64LE(BigInt(address), 24);
  bytes.writeBigUInt64LE(BigInt(size), 32);
  bytes.writeBigUInt64LE(BigInt(size), 40);
  bytes.writeBigUInt64LE(4096n, 48);
  return bytes;
}
