/** The network card, and the DHCP and ARP tables of QEMU's network; fewer and something is not as it was. */
const leastHits = 2;
/** More, and the bytes stand for something else somewhere. */
const mostHits = 8;

/**
 * A copy of a device state in which another MAC stands for `from`. QEMU takes a card's address from the saved
 * state whatever its command line says, and its network knows a guest by it: with the old one in those tables
 * the guest would get another address, to which no port is forwarded. Undefined where the bytes are not found
 * as often as they should be; then the guest has to keep its MAC.
 */
export function patchMac(state: Uint8Array, from: string, to: string): Uint8Array | undefined {
  const [old, fresh] = [bytesOf(from), bytesOf(to)];
  const copy = Buffer.from(state);
  let hits = 0;
  for (let at = copy.indexOf(old); at >= 0; at = copy.indexOf(old, at + old.length)) {
    hits += 1;
    if (hits > mostHits) return undefined;
    fresh.copy(copy, at);
  }
  return hits < leastHits ? undefined : copy;
}

function bytesOf(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(":", ""), "hex");
}
