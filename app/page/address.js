// The address holds the open tab and what that tab is asked for: every view can be linked and reloaded, and the browser's Back goes
// a step back, from tab to tab too. In it, `open` is what a dialog of the tab shows. Gradio's own parameters, which begin with two
// underscores, stay as they are.

const TABS = { search: "Search", lens: "Hardness lens", gallery: "Gallery", runs: "Runs" };
const left = {}; // by tab, the parameters that it was left with

/** The tab that the address opens. */
export function openTab() {
  const tab = new URLSearchParams(location.search).get("tab");
  return Object.hasOwn(TABS, tab ?? "") ? tab : "search";
}

/** What the address asks a tab for: nothing where it opens another one. */
export function askedOf(tab) {
  return tab === openTab() ? ownParameters() : new URLSearchParams();
}

/** Put a tab and its parameters into the address, as a step of its own unless they replace the present ones. */
export function writeAddress(tab, parameters, { replace = false } = {}) {
  const address = new URL(location.href), before = openTab(), turned = tab !== before, last = history.state ?? {};
  if (turned) {
    left[before] = ownParameters();
    left[before].delete("open");
  }
  for (const name of ["tab", ...ownParameters().keys()]) address.searchParams.delete(name);
  if (tab !== "search") address.searchParams.append("tab", tab);
  for (const [name, value] of parameters) address.searchParams.append(name, value);
  if (address.href === location.href) return;
  if (replace) history.replaceState(last, "", address);
  else history.pushState({ ...last, steps: turned ? 0 : stepsBack() + 1, opened: parameters.has("open") }, "", address);
  if (turned) window.dispatchEvent(new Event("hdml-turn"));
}

/** How many steps the browser can go back before it leaves the tab, or the page as it was opened. */
export function stepsBack() {
  return history.state?.steps ?? 0;
}

/** Close what a dialog shows: a step back where opening it was one, else by `write`. */
export function closeOpened(write) {
  if (history.state?.opened) history.back();
  else write();
}

/** From now on, call `show` when the address turns to a tab, or to another step of it, and `leave` when it turns to another. */
export function followAddress(tab, show, leave) {
  for (const kind of ["popstate", "hdml-turn"]) window.addEventListener(kind, () => (openTab() === tab ? show() : leave?.()));
}

/** Let Gradio's tabs and the address follow each other from now on. */
export function followTabs() {
  document.addEventListener("click", (event) => {
    const tab = nameOf(event.target.closest?.('button[role="tab"]'));
    if (tab && tab !== openTab()) writeAddress(tab, left[tab] ?? new URLSearchParams());
  });
  for (const kind of ["popstate", "hdml-turn"]) window.addEventListener(kind, showTab);
  const shown = nameOf(buttons().find((button) => button.ariaSelected === "true"));
  if (openTab() !== "search") showTab();
  else if (shown && shown !== "search") writeAddress(shown, new URLSearchParams(), { replace: true }); // pressed before this script was here
}

let later;
/** Press the tab that the address names until it is shown: Gradio makes its tabs some time after the page, and makes them answer later still. */
function showTab() {
  clearTimeout(later);
  const tab = buttons().find((button) => nameOf(button) === openTab());
  if (tab?.ariaSelected === "true") return;
  tab?.click();
  later = setTimeout(showTab, 50);
}

function ownParameters() {
  return new URLSearchParams([...new URLSearchParams(location.search)].filter(([name]) => name !== "tab" && !name.startsWith("__")));
}

function buttons() {
  return [...document.querySelectorAll('button[role="tab"]')].filter(nameOf);
}

function nameOf(button) {
  return Object.keys(TABS).find((tab) => TABS[tab] === button?.textContent.trim());
}
