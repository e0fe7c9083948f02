/** As much of a snapshot as its place in the tree needs. */
export interface Branch {
  name: string;
  parent: string | null;
}

/** A line of a drawn tree: what stands before the name, and whose it is. */
export interface Line<T> {
  lead: string;
  item: T;
}

/**
 * Draws what hangs on what, in the order given. One whose parent is not there is a root, as are those of a ring,
 * which only a damaged record can make.
 */
export function drawTree<T extends Branch>(branches: readonly T[]): Line<T>[] {
  const names = new Set(branches.map(({ name }) => name));
  const children = Map.groupBy(branches, ({ name, parent }) =>
    parent !== null && parent !== name && names.has(parent) ? parent : null,
  );
  const lines: Line<T>[] = [];
  const drawn = new Set<string>();
  const draw = (item: T, lead: string, below: string) => {
    if (drawn.has(item.name)) return;
    drawn.add(item.name);
    lines.push({ lead, item });
    const under = children.get(item.name) ?? [];
    for (const [index, child] of under.entries()) {
      const last = index === under.length - 1;
      draw(child, `${below}${last ? "└─ " : "├─ "}`, `${below}${last ? "   " : "│  "}`);
    }
  };
  for (const root of children.get(null) ?? []) draw(root, "", "");
  for (const one of branches) draw(one, "", "");
  return lines;
}
