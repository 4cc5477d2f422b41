// What is asked, kept in the address: a result can be linked, and the browser's Back goes a step back. Parameters that others
// keep there stay as they are.

const ONE = ["index", "id", "photo", "crop", "k", "path", "since", "until", "min_side", "open"];
const MANY = ["more", "less", "label", "attribute"];
export const COUNTS = [10, 20, 50, 100];
export const FILTERS = ["label", "attribute", "path", "since", "until", "min_side"];
export const NO_FILTERS = { label: [], attribute: [], path: null, since: null, until: null, min_side: null };
export const NO_QUERY = { id: null, photo: null, crop: null, more: [], less: [], open: null };

/** The state that an address holds; whatever in it cannot be meant is left out. */
export function readState(address = location.search) {
  const given = new URLSearchParams(address);
  const state = Object.fromEntries([...ONE.map((name) => [name, given.get(name)]), ...MANY.map((name) => [name, given.getAll(name)])]);
  state.id = number(state.id);
  state.open = number(state.open);
  state.k = COUNTS.includes(number(state.k)) ? number(state.k) : 20;
  state.crop = readCrop(state.crop);
  for (const name of ["more", "less"]) state[name] = state[name].map(number).filter((id) => id !== null);
  return state;
}

/** Put a state into the address, as a step of its own unless it replaces the present one. */
export function writeState(state, replace = false) {
  const address = new URL(location.href);
  for (const name of [...ONE, ...MANY]) address.searchParams.delete(name);
  for (const [name, value] of parameters(state, [...ONE, ...MANY])) if (name !== "k" || value !== "20") address.searchParams.append(name, value);
  const steps = (history.state?.steps ?? 0) + (replace ? 0 : 1);
  history[replace ? "replaceState" : "pushState"]({ ...history.state, steps }, "", address);
}

/** Some parts of a state as parameters of a request or an address. */
export function parameters(state, names) {
  const found = new URLSearchParams();
  for (const name of names) {
    const value = state[name];
    if (name === "crop") value && found.set(name, value.map((share) => share.toFixed(4)).join(","));
    else for (const one of Array.isArray(value) ? value : [value]) if (one !== null && one !== undefined && one !== "") found.append(name, one);
  }
  return found;
}

/** How many steps the browser can go back before it leaves the page as it was opened. */
export function stepsBack() {
  return history.state?.steps ?? 0;
}

export function hasQuery(state) {
  return state.photo !== null || state.id !== null || state.more.length + state.less.length > 0;
}

export function hasFilters(state) {
  return FILTERS.some((name) => (Array.isArray(state[name]) ? state[name].length > 0 : state[name]));
}

function number(words) {
  return /^\d{1,15}$/.test(words ?? "") ? Number(words) : null;
}

function readCrop(words) {
  const sides = (words ?? "").split(",").map(Number);
  const [left, top, right, bottom] = sides;
  const meant = sides.length === 4 && 0 <= left && left < right && right <= 1 && 0 <= top && top < bottom && bottom <= 1;
  return meant ? sides : null;
}
