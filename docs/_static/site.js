// Without this the site still reads: it filters lists, and keeps the search from asking a disk for pages.

if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false; // summaries are fetched, which browsers refuse for files
}

document.addEventListener("DOMContentLoaded", () => {
  const members = document.getElementById("members-list");
  if (members) addFilter(members);
});

function addFilter(section) {
  const rows = [...section.querySelectorAll("tbody tr")];
  const label = document.createElement("label");
  label.className = "filter";
  label.innerHTML = '<input type="search" placeholder="Filter members" aria-label="Filter members"><output></output>';
  section.querySelector("h2").after(label);
  label.querySelector("input").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    for (const group of section.querySelectorAll("section")) {
      group.hidden = !group.querySelector("tbody tr:not([hidden])");
    }
    const left = rows.filter((row) => !row.hidden).length;
    label.querySelector("output").textContent = wanted ? `${left} of ${rows.length}` : "";
  });
}
