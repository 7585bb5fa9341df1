/**
 * Assembles programs for the kernel's BPF machine (instruction set: Documentation/bpf/standardization/instruction-set.rst of Linux). Eleven
 * registers: 0 the result, 1 to 5 arguments of a call and lost with it, 6 to 9 kept, 10 the end of the stack.
 */

export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;
export type Width = 4 | 8;
export type Condition = "==" | "!=" | ">" | ">=" | "<=";

const INSTRUCTION_BYTES = 8;
const SIZE = { 4: 0x00, 8: 0x18 } as const;
const [LOAD, STORE, STORE_NUMBER] = [0x61, 0x63, 0x62];
const JUMPS = { "==": 0x10, "!=": 0x50, ">": 0x20, ">=": 0x30, "<=": 0xb0 } as const;
const [BY_NUMBER, BY_REGISTER] = [0x00, 0x08];
const ARITHMETIC = 0x07;
const OPERATIONS = { "+": 0x00, "-": 0x10, "*": 0x20, "&": 0x50, "=": 0xb0 } as const;
const [JUMP, CALL, EXIT, LOAD_WIDE] = [0x05, 0x85, 0x95, 0x18];
const MAP_DESCRIPTOR = 1;

export class BpfCode {
  readonly #instructions: Buffer[] = [];
  readonly #labels = new Map<string, number>();
  readonly #jumps: { readonly at: number; readonly label: string }[] = [];

  /** `to` operation `from`, in 64 bits; from a register, or a signed number of 32 bits. */
  compute(
    to: Register,
    operation: keyof typeof OPERATIONS,
    from: { readonly register: Register } | number,
  ): this {
    const code = ARITHMETIC | OPERATIONS[operation];
    return typeof from === "number"
      ? this.#emit(code | BY_NUMBER, to, 0, 0, from)
      : this.#emit(code | BY_REGISTER, to, from.register, 0, 0);
  }

  load(to: Register, base: Register, offset: number, width: Width): this {
    return this.#emit(LOAD | SIZE[width], to, base, offset, 0);
  }

  store(base: Register, offset: number, from: Register, width: Width): this {
    return this.#emit(STORE | SIZE[width], base, from, offset, 0);
  }

  storeNumber(base: Register, offset: number, value: number, width: Width): this {
    return this.#emit(STORE_NUMBER | SIZE[width], base, 0, offset, value);
  }

  loadMap(to: Register, descriptor: number): this {
    return this.#emit(LOAD_WIDE, to, MAP_DESCRIPTOR, 0, descriptor).#emit(0, 0, 0, 0, 0);
  }

  call(helper: number): this {
    return this.#emit(CALL, 0, 0, 0, helper);
  }

  /** To a label further down; numbers are compared without sign. */
  jumpIf(
    left: Register,
    condition: Condition,
    right: { readonly register: Register } | number,
    label: string,
  ): this {
    this.#jumps.push({ at: this.#instructions.length, label });
    const code = JUMP | JUMPS[condition];
    return typeof right === "number"
      ? this.#emit(code | BY_NUMBER, left, 0, 0, right)
      : this.#emit(code | BY_REGISTER, left, right.register, 0, 0);
  }

  jump(label: string): this {
    this.#jumps.push({ at: this.#instructions.length, label });
    return this.#emit(JUMP, 0, 0, 0, 0);
  }

  label(name: string): this {
    if (this.#labels.has(name)) throw new Error(`the label ${name} stands twice`);
    this.#labels.set(name, this.#instructions.length);
    return this;
  }

  exit(): this {
    return this.#emit(EXIT, 0, 0, 0, 0);
  }

  /** Throws where a jump has nowhere to go. */
  assemble(): Buffer {
    for (const { at, label } of this.#jumps) {
      const to = this.#labels.get(label);
      if (to === undefined) throw new Error(`there is no label ${label}`);
      this.#instructions[at]!.writeInt16LE(to - at - 1, 2);
    }
    return Buffer.concat(this.#instructions);
  }

  #emit(code: number, to: Register, from: number, offset: number, value: number): this {
    const instruction = Buffer.alloc(INSTRUCTION_BYTES);
    instruction.writeUInt8(code, 0);
    instruction.writeUInt8(to | (from << 4), 1);
    instruction.writeInt16LE(offset, 2);
    instruction.writeInt32LE(value, 4);
    this.#instructions.push(instruction);
    return this;
  }
}
