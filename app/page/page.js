import { followTabs } from "./address.js";
import { Isolated, isDark, make } from "./dom.js";
import { icon } from "./icons.js";
import "./search.js";
import "./lens.js";
import "./gallery.js";
import "./runs.js";

followTabs();

const SCHEME = "hdml-scheme"; // what the person has chosen, against that of the system

customElements.define(
  "hdml-header",
  class extends Isolated {
    connectedCallback() {
      const chosen = localStorage.getItem(SCHEME);
      if (chosen) document.body.classList.toggle("dark", chosen === "dark");
      const scheme = make("button", { type: "button", className: "quiet" });
      const show = () => {
        const other = isDark() ? "light" : "dark";
        scheme.title = scheme.ariaLabel = `Switch to ${other} colours`;
        scheme.replaceChildren(icon(isDark() ? "sun" : "moon"));
      };
      scheme.onclick = () => {
        localStorage.setItem(SCHEME, document.body.classList.toggle("dark") ? "dark" : "light");
        show();
      };
      show();
      this.fill(make("header", {}, make("img", { src: "/page/icon.svg", alt: "", width: 28, height: 28 }), make("h1", {}, "hdml"), scheme));
    }
  },
);
