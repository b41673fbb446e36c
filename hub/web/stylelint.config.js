export default {
  plugins: ["stylelint-no-unsupported-browser-features"],
  rules: {
    "plugin/no-unsupported-browser-features": [
      true,
      {
        browsers: ["chrome 109"],
        ignorePartialSupport: true,
      },
    ],
    "block-no-empty": true,
    "color-no-invalid-hex": true,
    "declaration-block-no-duplicate-properties": [true, { ignore: ["consecutive-duplicates-with-different-values"] }],
    "function-disallowed-list": ["color-mix", "oklch", "oklab", "lch", "lab", "light-dark"],
    // What the plugin's data cannot tell from older features.
    "property-disallowed-list": ["field-sizing", "text-wrap", "anchor-name", "view-transition-name", "interpolate-size", "animation-timeline"],
    "at-rule-disallowed-list": ["scope", "starting-style", "view-transition", "position-try"],
    "property-no-unknown": true,
    "selector-type-no-unknown": true,
    "unit-no-unknown": true,
    "max-nesting-depth": 0,
  },
};
