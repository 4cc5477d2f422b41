// Quantities in words.

export function bytes(count) {
  const units = ["bytes", "kB", "MB", "GB", "TB"], unit = Math.min(4, Math.floor(Math.log10(Math.max(1, count)) / 3));
  return `${+(count / 1000 ** unit).toPrecision(3)} ${units[unit]}`;
}

export function day(moment) {
  return moment === null ? "unknown" : new Date(moment).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}
