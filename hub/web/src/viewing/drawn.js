// What a viewer writes into its records by showing them: nobody has drawn that.
const SHOWN = new Set(["invalidated", "highlighted", "isSelected", "isVisible", "cachedStats", "activeHandleIndex", "worldBoundingBox"]);

/** What was drawn, as text: the same in every window that shows it. */
export const drawn = (drawing) =>
  JSON.stringify(drawing, (name, value) => {
    if (SHOWN.has(name)) return undefined;
    // A label stands where the viewer likes until somebody moves it.
    if (name === "textBox" && value && !value.hasMoved) return undefined;
    return value;
  });
