"""What the user takes home: TFLite files and reports."""
