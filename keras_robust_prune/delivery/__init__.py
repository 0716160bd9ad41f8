"""What the user takes home: TFLite files, tables and reports."""
