// Files out of what people choose or drop: folders, files, a remembered folder.

/** Files of an <input type="file">, with the folder's name before each path. */
export function fromInput(input) {
  return [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

function entryFiles(entry) {
  return new Promise((resolve) => {
    if (entry.isFile) {
      entry.file(
        (file) => resolve([{ file, path: entry.fullPath.replace(/^\//, "") }]),
        () => resolve([]),
      );
      return;
    }
    const reader = entry.createReader();
    const found = [];
    // A reader gives at most 100 entries at a time.
    const more = () =>
      reader.readEntries(
        async (entries) => {
          if (!entries.length) return resolve(found);
          for (const child of entries) found.push(...(await entryFiles(child)));
          return more();
        },
        () => resolve(found),
      );
    more();
  });
}

/** Files of a drop, folders walked through; and the folder's handle where the browser gives one. */
export async function fromDrop(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const handles = items.map((item) => item.getAsFileSystemHandle?.());
  const plain = [...transfer.files];
  const found = [];
  for (const entry of entries) found.push(...(await entryFiles(entry)));
  const handle = handles.length === 1 && handles[0] ? await handles[0].catch(() => null) : null;
  return {
    files: entries.length ? found : plain.map((file) => ({ file, path: file.name })),
    handle: handle?.kind === "directory" ? handle : null,
  };
}

/** Files of a folder's handle. */
export async function fromHandle(handle, prefix = handle.name) {
  const found = [];
  for await (const [name, child] of handle.entries()) {
    const path = `${prefix}/${name}`;
    if (child.kind === "directory") found.push(...(await fromHandle(child, path)));
    else found.push({ file: await child.getFile(), path });
  }
  return found;
}

/* Handles survive a reload in IndexedDB; they cannot stand in localStorage. */
function store(mode, work) {
  return new Promise((resolve) => {
    if (!("indexedDB" in window)) return resolve(null);
    const request = indexedDB.open("hub-upload", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("handles");
    request.onerror = () => resolve(null);
    request.onsuccess = () => {
      const database = request.result;
      let result = null;
      try {
        const transaction = database.transaction("handles", mode);
        const asked = work(transaction.objectStore("handles"));
        asked.onsuccess = () => (result = asked.result ?? null);
        transaction.oncomplete = () => resolve(result);
        transaction.onerror = () => resolve(null);
        transaction.onabort = () => resolve(null);
      } catch {
        resolve(null);
      }
      return undefined;
    };
    return undefined;
  });
}

export const rememberHandle = (batch, handle) => store("readwrite", (handles) => handles.put(handle, batch));
export const recallHandle = (batch) => store("readonly", (handles) => handles.get(batch));
export const forgetHandle = (batch) => store("readwrite", (handles) => handles.delete(batch));
