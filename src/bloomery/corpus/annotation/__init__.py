"""What people, rules and models say of documents: asked, kept, compared, and made into labels to learn from."""
