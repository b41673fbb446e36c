import js from "@eslint/js";
import compat from "eslint-plugin-compat";
import esx from "eslint-plugin-es-x";
import globals from "globals";

export default [
  { ignores: ["dist/**", "node_modules/**"] },
  js.configs.recommended,
  compat.configs["flat/recommended"],
  // compat knows interfaces, but not the newer static methods of the language.
  esx.configs["flat/restrict-to-es2022"],
  {
    files: ["src/**/*.js"],
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: { ...globals.browser } },
    settings: { browsers: ["chrome 109"], lintAllEsApis: true },
    rules: {
      "no-unused-vars": ["error", { argsIgnorePattern: "^_", caughtErrors: "none" }],
      eqeqeq: ["error", "always", { null: "ignore" }],
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-var": "error",
      "prefer-const": "error",
      // ES2023 that Chromium 109 has.
      "es-x/no-array-prototype-findlast-findlastindex": "off",
      "es-x/no-hashbang": "off",
      "no-restricted-properties": [
        "error",
        ...[
          ["AbortSignal", "any"],
          ["URL", "canParse"],
          ["URL", "parse"],
          ["Array", "fromAsync"],
          ["Intl", "DurationFormat"],
        ].map(([object, property]) => ({ object, property, message: "Chromium 109 does not know this." })),
      ],
      // Methods of values, which the compat rules cannot see.
      "no-restricted-syntax": [
        "error",
        {
          selector:
            "MemberExpression[property.name=/^(toSorted|toReversed|toSpliced|isWellFormed|toWellFormed|showPopover|hidePopover|togglePopover|checkVisibility|startViewTransition|setHTMLUnsafe|getHTML|isSubsetOf|isSupersetOf|symmetricDifference|requestClose)$/]",
          message: "Chromium 109 does not know this.",
        },
      ],
    },
  },
  { files: ["src/live-worker.js"], languageOptions: { globals: { ...globals.worker } } },
  { files: ["*.config.js"], languageOptions: { globals: { ...globals.node } } },
];
