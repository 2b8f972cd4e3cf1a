"use strict";
(() => {
  const announce = document.getElementById("announce");

  function valueOf(cell) {
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = Number(text.replace(/\u2009/g, ""));
    return text === "" || text === "–" ? null : Number.isNaN(number) ? text : number;
  }

  function compare(a, b) {
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  }

  function sort(table, column, button) {
    const heads = [...table.tHead.rows[0].cells];
    const head = heads[column];
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [valueOf(row.cells[column]), row]);
    // numbers begin with the highest, names and the order of choice with the first
    const numbers = head.classList.contains("num") && rows.some(([value]) => typeof value === "number");
    const now = head.getAttribute("aria-sort");
    const direction = now === "none" ? (numbers ? "descending" : "ascending") : now === "ascending" ? "descending" : "ascending";
    const sign = direction === "ascending" ? 1 : -1;
    rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
    body.append(...rows.map(([, row]) => row));
    heads.forEach((other) => other.setAttribute("aria-sort", other === head ? direction : "none"));
    announce.textContent = "Sorted by " + button.textContent + ", " + direction;
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.title = head.title ? head.title + " (press to sort)" : "Press to sort";
      head.replaceChildren(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => sort(table, column, button));
    });
  }

  for (const what of ["outline", "uncertainty"]) {
    const box = document.getElementById("show-" + what);
    if (box) box.addEventListener("change", () => document.body.classList.toggle("no-" + what, !box.checked));
  }

  // a link to a case opens the round that holds it
  function openTarget() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    for (let one = target; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
    if (target) target.scrollIntoView();
  }
  addEventListener("hashchange", openTarget);
  if (location.hash) openTarget();
})();
