"use strict";
// Asks for the page anew and puts its content in place, unless it is the same; what the reader has
// opened stays open.
(() => {
  const pause = 3000;
  let before = null;
  const badge = (text) => {
    const live = document.querySelector(".live");
    if (live) live.textContent = text;
  };
  const look = async () => {
    try {
      const answer = await fetch(location.pathname, { cache: "no-store" });
      const text = await answer.text();
      if (answer.ok && text !== before) {
        if (before !== null) {
          const next = new DOMParser().parseFromString(text, "text/html");
          const open = [...document.querySelectorAll("details[open]")].map((one) => one.id);
          const page = document.adoptNode(next.getElementById("page"));
          for (const id of open) page.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
          document.getElementById("page").replaceWith(page);
          document.title = next.title;
        }
        before = text;
      }
      badge(answer.ok ? "live" : "waiting");
    } catch {
      badge("the server has ended");
    }
    setTimeout(look, pause);
  };
  look();
})();
