/** How one stretch of text looks. Colours are CSS colours; undefined is the terminal's own. */
interface Look {
  foreground: string | undefined;
  background: string | undefined;
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
  inverse: boolean;
}

interface Run {
  text: string;
  look: Look;
}

const plain: Look = {
  foreground: undefined,
  background: undefined,
  bold: false,
  dim: false,
  italic: false,
  underline: false,
  inverse: false,
};

// A dark window with a grey frame stands on light and dark pages alike.
const colours = { page: "#1d2229", bar: "#2a313a", frame: "#57606a", text: "#d8dee6", title: "#98a2ae" };
const sixteen =
  "#3b434e #f07178 #8fd17f #f2c66d #6cb2f7 #c792ea #5fd3c4 #c3cbd5 #687280 #ff8b92 #a8e59a #ffd98a #8cc7ff #dcb0f7 #83e6d8 #ffffff".split(
    " ",
  );
const cell = { width: 8.4, height: 19, fontSize: 14 };
const margin = 18;
const barHeight = 34;

/**
 * Draws terminal lines, coloured by SGR sequences (ECMA-48 8.3.117, with xterm's 256 and RGB colours), as
 * an SVG with a window's frame. Other escape sequences are dropped.
 */
export function drawTerminal(screen: string, options: { columns: number; title: string }): string {
  let look = plain;
  const rows = screen.split("\n").map((line) => {
    const { runs, after } = parseLine(line, look);
    look = after;
    return runs;
  });
  const width = Math.ceil(options.columns * cell.width + 2 * margin);
  const height = Math.ceil(barHeight + rows.length * cell.height + 2 * margin - 6);
  const lights = ["#f07178", "#f2c66d", "#8fd17f"].map(
    (colour, index) => `<circle cx="${20 + index * 18}" cy="${barHeight / 2}" r="5.5" fill="${colour}"/>`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${escapeXml(options.title)}</title>`,
    `<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="9" fill="${colours.page}" stroke="${colours.frame}"/>`,
    `<path d="M1 ${barHeight}V10a9 9 0 0 1 9-9H${width - 10}a9 9 0 0 1 9 9V${barHeight}Z" fill="${colours.bar}"/>`,
    ...lights,
    `<text x="${width / 2}" y="${barHeight / 2 + 4.5}" text-anchor="middle" font-family="system-ui,sans-serif" font-size="13" fill="${colours.title}">${escapeXml(options.title)}</text>`,
    `<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="${cell.fontSize}" fill="${colours.text}" xml:space="preserve">`,
    ...rows.flatMap((runs, row) => drawRow(runs, barHeight + margin + row * cell.height)),
    "</g>",
    "</svg>",
    "",
  ].join("\n");
}

/** Cells that a character takes: two for East Asian wide ones and emoji, none for combining marks. */
function cellsOf(text: string): number {
  let cells = 0;
  for (const character of text) {
    if (/\p{Mark}/u.test(character)) continue;
    cells +=
      /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]|\p{Emoji_Presentation}/u.test(
        character,
      )
        ? 2
        : 1;
  }
  return cells;
}

function drawRow(runs: Run[], top: number): string[] {
  const backgrounds: string[] = [];
  const texts: string[] = [];
  let column = 0;
  for (const { text, look } of runs) {
    const x = round(margin + column * cell.width);
    const cells = cellsOf(text);
    const length = round(cells * cell.width);
    column += cells;
    const foreground = look.inverse ? (look.background ?? colours.page) : look.foreground;
    const background = look.inverse ? (look.foreground ?? colours.text) : look.background;
    if (background !== undefined) {
      backgrounds.push(
        `<rect x="${x}" y="${round(top)}" width="${length}" height="${cell.height}" fill="${background}"/>`,
      );
    }
    if (text.trim() === "" && !look.underline) continue;
    const attributes = [
      `x="${x}"`,
      `y="${round(top + 14)}"`,
      `textLength="${length}"`,
      ...(foreground === undefined ? [] : [`fill="${foreground}"`]),
      ...(look.bold ? ['font-weight="700"'] : []),
      ...(look.italic ? ['font-style="italic"'] : []),
      ...(look.underline ? ['text-decoration="underline"'] : []),
      ...(look.dim ? ['opacity="0.65"'] : []),
    ];
    texts.push(`<text ${attributes.join(" ")}>${escapeXml(text)}</text>`);
  }
  return [...backgrounds, ...texts];
}

/** One line as runs of equal look, and the look in which it ends. */
export function parseLine(line: string, before: Look = plain): { runs: Run[]; after: Look } {
  const runs: Run[] = [];
  let look = before;
  for (const part of line.split(/(\x1b\[[0-9;:]*m)/)) {
    const sequence = /^\x1b\[([0-9;:]*)m$/.exec(part);
    if (sequence !== null) {
      look = applySgr(look, sequence[1]!.split(/[;:]/).map(Number));
      continue;
    }
    const text = part.replace(
      /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])|[\x00-\x1f\x7f]/g,
      "",
    );
    if (text !== "") runs.push({ text, look });
  }
  return { runs, after: look };
}

function applySgr(before: Look, codes: number[]): Look {
  const look = { ...before };
  for (let index = 0; index < codes.length; index += 1) {
    const code = codes[index]!;
    if (code === 0) Object.assign(look, plain);
    else if (code === 1) look.bold = true;
    else if (code === 2) look.dim = true;
    else if (code === 3) look.italic = true;
    else if (code === 4) look.underline = true;
    else if (code === 7) look.inverse = true;
    else if (code === 22) look.bold = look.dim = false;
    else if (code === 23) look.italic = false;
    else if (code === 24) look.underline = false;
    else if (code === 27) look.inverse = false;
    else if (code >= 30 && code <= 37) look.foreground = sixteen[code - 30];
    else if (code >= 90 && code <= 97) look.foreground = sixteen[code - 82];
    else if (code >= 40 && code <= 47) look.background = sixteen[code - 40];
    else if (code >= 100 && code <= 107) look.background = sixteen[code - 92];
    else if (code === 39) look.foreground = undefined;
    else if (code === 49) look.background = undefined;
    else if (code === 38 || code === 48) {
      const isRgb = codes[index + 1] === 2;
      const values = codes.slice(index + 2, index + (isRgb ? 5 : 3));
      const colour = isRgb ? rgb(values) : indexed(values[0] ?? 0);
      if (code === 38) look.foreground = colour;
      else look.background = colour;
      index += isRgb ? 4 : 2;
    }
  }
  return look;
}

/** xterm's 256: sixteen named, a 6x6x6 cube, 24 greys. */
function indexed(index: number): string {
  if (index < 16) return sixteen[index]!;
  if (index >= 232) return rgb(Array(3).fill(8 + (index - 232) * 10));
  const level = (step: number) => (step === 0 ? 0 : 55 + step * 40);
  const place = index - 16;
  return rgb([level(Math.floor(place / 36)), level(Math.floor(place / 6) % 6), level(place % 6)]);
}

function rgb(values: number[]): string {
  return `#${values.map((value) => Math.min(255, value).toString(16).padStart(2, "0")).join("")}`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function escapeXml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
