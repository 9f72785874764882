"""From a store to what a reader sees: tables, figures, verdicts and the report; reads logits, never trains."""
