// Drawings on a grid of 24, in the colour of the text beside them; what they stand for is always said in words too.
const PATHS = {
  more: "M12 5v14M5 12h14",
  less: "M5 12h14",
  search: "M4.5 10.5a6 6 0 1 0 12 0a6 6 0 1 0-12 0M20 20l-5.2-5.2",
  lens: "M3 12a9 9 0 1 0 18 0a9 9 0 1 0-18 0M9 12a3 3 0 1 0 6 0a3 3 0 1 0-6 0M12 3v3M21 12h-3M12 21v-3M3 12h3",
  close: "M6 6l12 12M18 6L6 18",
  camera: "M3 8h4l2-3h6l2 3h4v11H3zM8.5 13a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0",
  crop: "M6 2v16h16M2 6h16v16",
  filter: "M3 6h18M7 12h10M10 18h4",
  upload: "M12 16V4M7 9l5-5l5 5M4 20h16",
  undo: "M9 14L4 9l5-5M4 9h10a5.5 5.5 0 0 1 0 11h-3",
  previous: "M15 5l-7 7l7 7",
  next: "M9 5l7 7l-7 7",
  why: "M2.5 12S6 5.5 12 5.5S21.5 12 21.5 12S18 18.5 12 18.5S2.5 12 2.5 12zM9 12a3 3 0 1 0 6 0a3 3 0 1 0-6 0",
  moon: "M20 14.5A8.5 8.5 0 1 1 9.5 4a7 7 0 0 0 10.5 10.5z",
  sun: "M8 12a4 4 0 1 0 8 0a4 4 0 1 0-8 0M12 2v2.5M12 19.5V22M2 12h2.5M19.5 12H22M5 5l1.8 1.8M17.2 17.2L19 19M19 5l-1.8 1.8M6.8 17.2L5 19",
};
const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  const drawing = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" })) drawing.setAttribute(key, value);
  drawing.append(path);
  return drawing;
}
