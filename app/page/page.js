import { make } from "./dom.js";
import "./search.js";
import "./lens.js";

customElements.define(
  "hdml-header",
  class extends HTMLElement {
    connectedCallback() {
      const mark = make("img", { src: "/page/icon.svg", alt: "", width: 28, height: 28 });
      const name = make("h1", {}, "hdml");
      this.replaceChildren(mark, name, make("p", {}, "visual search, and how hard its negatives are"));
    }
  },
);
