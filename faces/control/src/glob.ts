/**
 * Whether `name` fits `glob`, where `*` stands for any text and `?` for one character. Goes back to
 * the last star only, so that no pattern takes longer than glob length times name length.
 */
export function globMatches(glob: string, name: string): boolean {
  let g = 0;
  let n = 0;
  let star = -1;
  let starName = 0;
  while (n < name.length) {
    if (glob[g] === "*") {
      star = g++;
      starName = n;
    } else if (g < glob.length && (glob[g] === "?" || glob[g] === name[n])) {
      g += 1;
      n += 1;
    } else if (star >= 0) {
      g = star + 1;
      n = ++starName;
    } else {
      return false;
    }
  }
  while (glob[g] === "*") g += 1;
  return g === glob.length;
}
