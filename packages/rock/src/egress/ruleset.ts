/** The packet filter of the gateway's namespace: loaded once, before anything is attached. Nothing is ever forwarded. */
export interface RulesetPorts {
  /** TCP and UDP of the resolver. */
  readonly dns: number;
  /** Where every TCP connection ends, allowed or not. */
  readonly tcp: number;
}

/** Interfaces of sandboxes in the gateway's namespace. */
export const CABLE_PREFIX = "ale";
export const LOG_GROUP = 5;

/** New connections that one sandbox may begin in a second before the rest is only counted. */
export const NEW_CONNECTIONS_PER_SECOND = 50;
/** Datagrams to resolvers that one sandbox may send in a second. */
export const QUERIES_PER_SECOND = 500;
/** So many at once are let through before that rate counts. */
export const BURST = 100;

/**
 * Every TCP connection is turned to the door, which knows the original destination; names go to the resolver; everything else is logged
 * and dropped. A scan is let through to the door at a bounded rate, so that it cannot keep the door from others.
 */
export function ruleset(ports: RulesetPorts): string {
  const log = (prefix: string): string => `log prefix "${prefix}" group ${LOG_GROUP} queue-threshold 1`;
  return `
table inet ale {
  set asking { type ifname; flags dynamic; size 65535; timeout 10s; }
  set busy { type ifname; flags dynamic; size 65535; timeout 10s; }

  chain turn {
    type nat hook prerouting priority dstnat; policy accept;
    meta nfproto ipv6 return
    iifname "${CABLE_PREFIX}*" udp dport 53 redirect to :${ports.dns}
    iifname "${CABLE_PREFIX}*" meta l4proto tcp redirect to :${ports.tcp}
  }

  chain before {
    type filter hook prerouting priority -150; policy accept;
    meta nfproto ipv6 jump refuse
    # Here and not at forward: without a way out the kernel drops them before it would get there.
    iifname "${CABLE_PREFIX}*" meta l4proto != { tcp, udp } jump refuse
    iifname "${CABLE_PREFIX}*" udp dport != 53 jump refuse
    # Each of another port would be an entry of connection tracking, of which all sandboxes have so many together.
    iifname "${CABLE_PREFIX}*" meta l4proto udp add @asking { iifname limit rate over ${QUERIES_PER_SECOND}/second burst ${QUERIES_PER_SECOND} packets } counter drop
    iifname "${CABLE_PREFIX}*" tcp flags & (syn | ack) == syn add @busy { iifname limit rate over ${NEW_CONNECTIONS_PER_SECOND}/second burst ${BURST} packets } jump flood
  }

  chain flood {
    limit rate 5/second burst 5 packets ${log("scan")}
    counter drop
  }

  chain refuse {
    limit rate 200/second burst 200 packets ${log("deny")}
    counter drop
  }

  chain input {
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    iifname "${CABLE_PREFIX}*" ct status dnat tcp dport ${ports.tcp} accept
    iifname "${CABLE_PREFIX}*" ct status dnat udp dport ${ports.dns} accept
    jump refuse
  }

  chain forward {
    type filter hook forward priority filter; policy drop;
    jump refuse
  }

  chain output {
    type filter hook output priority filter; policy drop;
    oifname "lo" accept
    ct state established,related accept
  }
}
`;
}
