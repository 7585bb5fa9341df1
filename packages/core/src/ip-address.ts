/** IP addresses and networks as numbers, so that they can be compared. Text forms of RFC 4291 §2.2 and dotted IPv4; nothing else is guessed. */
export interface IpAddress {
  readonly v6: boolean;
  /** 32 or 128 bits. An IPv4 address within IPv6 (`::ffff:10.0.0.1`) is the IPv4 address. */
  readonly bits: bigint;
}

export interface IpNetwork extends IpAddress {
  readonly prefix: number;
}

const MAPPED = 0xffffn << 32n;

/** Undefined for what is no address: names, leading zeros beyond three digits, zones, ports. */
export function parseIp(text: string): IpAddress | undefined {
  const v4 = ipv4Bits(text);
  if (v4 !== undefined) return { v6: false, bits: v4 };
  const v6 = ipv6Bits(text);
  if (v6 === undefined) return undefined;
  return v6 >> 32n === MAPPED >> 32n ? { v6: false, bits: v6 & 0xffffffffn } : { v6: true, bits: v6 };
}

function ipv4Bits(text: string): bigint | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  const bytes = match?.slice(1).map(Number);
  if (bytes === undefined || bytes.some((byte) => byte > 255)) return undefined;
  return BigInt(((bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!) >>> 0);
}

function ipv6Bits(text: string): bigint | undefined {
  if (!text.includes(":") || !/^[0-9a-f:.]+$/i.test(text)) return undefined;
  // The last 32 bits may be written as an IPv4 address.
  const dotted = /^(.*:)(\d{1,3}(?:\.\d{1,3}){3})$/.exec(text);
  const low = dotted === null ? undefined : ipv4Bits(dotted[2]!);
  if (dotted !== null && low === undefined) return undefined;
  const whole =
    low === undefined ? text : `${dotted![1]}${(low >> 16n).toString(16)}:${(low & 0xffffn).toString(16)}`;
  const [left = "", right, ...more] = whole.split("::");
  if (more.length > 0) return undefined;
  const groups = (part: string): string[] => (part === "" ? [] : part.split(":"));
  const [head, tail] = [groups(left), groups(right ?? "")];
  const missing = 8 - head.length - tail.length;
  if (right === undefined ? missing !== 0 : missing < 1) return undefined;
  const all = [...head, ...Array.from({ length: missing }, () => "0"), ...tail];
  if (all.some((group) => !/^[0-9a-f]{1,4}$/i.test(group))) return undefined;
  return all.reduce((bits, group) => (bits << 16n) | BigInt(`0x${group}`), 0n);
}

/** `10.0.0.0/8`, or one address. Undefined for what is neither. `strict`: no bits may stand beyond the prefix. */
export function parseNetwork(
  text: string,
  options: { readonly strict?: boolean } = {},
): IpNetwork | undefined {
  const slash = text.indexOf("/");
  const address = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  const width = address.v6 ? 128 : 32;
  const length = text.slice(slash + 1);
  if (slash >= 0 && !/^\d{1,3}$/.test(length)) return undefined;
  const prefix = slash < 0 ? width : Number(length);
  if (prefix > width) return undefined;
  const host = BigInt(width - prefix);
  const bits = (address.bits >> host) << host;
  if (options.strict && bits !== address.bits) return undefined;
  return { v6: address.v6, bits, prefix };
}

export function isWithin(address: IpAddress, network: IpNetwork): boolean {
  if (address.v6 !== network.v6) return false;
  const host = BigInt((network.v6 ? 128 : 32) - network.prefix);
  return address.bits >> host === network.bits >> host;
}
