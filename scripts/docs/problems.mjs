/**
 * Gaps in the declarations: options without a default or a range, members without a doc comment.
 */
export const problems = [];
